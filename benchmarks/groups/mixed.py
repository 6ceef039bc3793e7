"""A batch in which every row has an adapter of its own, against the base model's batch."""

from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows
from benchmarks.settings import TIED
from benchmarks.shapes import SHAPES

METHODS = ("frozen", "reftune", "lora_qv")


def measure_mixed(crew: Crew, plan: Plan) -> list[Row]:
    """Time greedy answers with PEFT's `adapter_names`."""
    count, prompt, new = plan.mixed
    errors: dict[str, str] = {}
    edits = TIED.described(SHAPES[plan.shape].num_hidden_layers)
    jobs = {}
    for method in crew.keep(METHODS):
        attempt(errors, method, partial(_prepare, crew, plan, method, edits))
        jobs[method] = partial(_answer, crew, method, {"rows": count, "prompt": prompt, "new": new})
    jobs = {method: job for method, job in jobs.items() if method not in errors}
    samples = interleave(jobs, plan.rounds, plan.budget, errors)
    case = f"{count} rows, {count} adapters, prompt {prompt}, {new} new"
    return make_rows("mixed", case, samples, errors, {"": "frozen"}, {})


def _prepare(crew: Crew, plan: Plan, method: str, edits: dict) -> None:
    count, prompt, _ = plan.mixed
    crew.build(method, plan.shape, edits, prompt)
    crew.worker(method).ask("tenants", count=count)


def _answer(crew: Crew, method: str, given: dict[str, int], number: int) -> float:
    return crew.worker(method).ask("answer_mixed", **given, seed=number)
