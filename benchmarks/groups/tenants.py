"""Many small trainings on one model: one layer, rank 4, last token, ten examples each."""

import subprocess
import tempfile
import time
from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import interleave
from benchmarks.plans import Plan, Tenants
from benchmarks.process import Refused, variables
from benchmarks.pythons import ROOT
from benchmarks.rows import Row, make_rows
from benchmarks.settings import ONE
from benchmarks.shapes import SHAPES

TOGETHER, TURN, PROCESS = "together", "in turn", "a process each"


def measure_tenants(crew: Crew, plan: Plan) -> list[Row]:
    """Time all at once, some in turn, and one `reftune train` of its own, by model."""
    crew.keep(("reftune",))
    return [row for one in plan.tenants for row in _measure(crew, plan, one)]


def _measure(crew: Crew, plan: Plan, tenants: Tenants) -> list[Row]:
    errors: dict[str, str] = {}
    edits = ONE.described(SHAPES[tenants.shape].num_hidden_layers)
    rows = tenants.rows
    given = {"edits": edits, "rows": rows.given(), "epochs": tenants.epochs}
    measured = {TOGETHER: tenants.count, TURN: tenants.measured, PROCESS: 1}
    with tempfile.TemporaryDirectory(dir=crew.folder) as folder:
        ask = crew.worker("reftune", tenants.shape).ask
        attempt(errors, PROCESS, partial(ask, "tenants_files", rows=rows.given(), folder=folder))
        jobs = {
            TOGETHER: partial(_asked, crew, tenants, "tenants_together", tenants.count, given),
            TURN: partial(_asked, crew, tenants, "tenants_in_turn", tenants.measured, given),
            PROCESS: partial(_process, crew, tenants, folder, edits),
        }
        jobs = {name: job for name, job in jobs.items() if name not in errors}
        samples = interleave(jobs, min(tenants.rounds, plan.rounds), plan.budget, errors)
    details = {name: {"trainings measured": count} for name, count in measured.items()}
    case = (
        f"shape {tenants.shape}, {tenants.count} trainings, {tenants.epochs} epochs, "
        f"{rows.count} rows of {rows.prompt}+{rows.completion}"
    )
    return make_rows("tenants", case, samples, errors, {"": TURN}, details)


def _asked(crew: Crew, tenants: Tenants, do: str, count: int, given: dict, number: int) -> float:
    # The first round loads what is loaded late; it need not be as long.
    short = {"epochs": 1, "count": min(count, 2)} if number == 0 else {}
    asked = {"count": count, **given, **short, "seed": number}
    return tenants.count / count * crew.worker("reftune", tenants.shape).ask(do, **asked)


def _process(crew: Crew, tenants: Tenants, folder: str, edits: dict, number: int) -> float:
    """Return the seconds of as many processes, by one."""
    python = crew.pythons["reftune"]
    options = {
        "model": f"{folder}/model",
        "data": f"{folder}/rows.jsonl",
        "out": f"{folder}/{number}",
        "layers": ",".join(map(str, edits["layers"])),
        "positions": edits["positions"],
        "r": edits["rank"],
        "epochs": tenants.epochs if number else 1,
        "batch-size": tenants.rows.count,
        "template": "plain",
        "save-steps": 0,
    }
    command = [python, "-m", "reftune", "train", *(f"--{k}={v}" for k, v in options.items())]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=variables(crew.threads), check=False
    )
    if done.returncode != 0:
        raise Refused(" ".join(done.stderr.split())[-300:])
    return tenants.count * (time.perf_counter() - started)
