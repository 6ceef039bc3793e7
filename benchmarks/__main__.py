"""Measure reftune beside its peers: `python -m benchmarks --help`, or `make bench`."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.bars import judge
from benchmarks.crew import SEED, Crew
from benchmarks.groups.generation import measure_generation
from benchmarks.groups.imports import measure_imports
from benchmarks.groups.mixed import measure_mixed
from benchmarks.groups.orthonormal import measure_orthonormal
from benchmarks.groups.steps import measure_steps
from benchmarks.groups.storage import measure_storage
from benchmarks.groups.tutorial import measure_tutorial
from benchmarks.machine import describe_machine
from benchmarks.picture import draw
from benchmarks.plans import Plan, cpu_plan, cuda_plan, quick_plan
from benchmarks.process import Refused
from benchmarks.pythons import NAMES, find_pythons
from benchmarks.report import render
from benchmarks.rows import Row

RESULTS = Path(__file__).parent / "results"
STEPS = ("i", "ii", "iii", "iv", "vi", "memory")
GROUPS: dict[str, Callable[[Crew, Plan], list[Row]]] = {
    "v": measure_tutorial,
    "generation": measure_generation,
    "mixed": measure_mixed,
    "storage": measure_storage,
    "import": measure_imports,
    "orthonormal": measure_orthonormal,
}


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    only = ", ".join([*STEPS, *GROUPS])
    parser.add_argument("--only", default="", help=f"some of {only}, with commas between")
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it works")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", default="tinyllama-1.1b", help="the model on a GPU")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in every process")
    parser.add_argument("--rounds", type=int, help="at most so many timed rounds everywhere")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"the interpreter of {', '.join(NAMES)}; `NAME=` leaves it out",
    )
    parser.add_argument("--out", type=Path, help=f"folder of the results, {RESULTS.name}/ if none")
    return parser


def chosen_work(plan: Plan, only: list[str]) -> dict[str, Callable[[Crew], list[Row]]]:
    """Return what is to be measured, by name.

    Raises:
        ValueError: a name is unknown.
    """
    unknown = set(only) - set(STEPS) - set(GROUPS)
    if unknown:
        raise ValueError(f"--only {sorted(unknown)}: expected some of {[*STEPS, *GROUPS]}")
    work: dict[str, Callable[[Crew], list[Row]]] = {}
    for case in plan.cases:
        if not only or case.setting.partition("-")[0] in only:
            work[case.name] = partial(measure_steps, plan=plan, case=case)
    for name, measure in GROUPS.items():
        if not only or name in only:
            work[name] = partial(measure, plan=plan)
    return work


def measure(crew: Crew, work: dict[str, Callable[[Crew], list[Row]]]) -> list[Row]:
    """Measure one after another, and say how long each took."""
    rows: list[Row] = []
    for name, one in work.items():
        started = time.perf_counter()
        try:
            found = one(crew)
        except Refused as error:  # a worker that everything depends on
            found = [Row(name, name, "reftune", error=str(error))]
        rows += found
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        for row in found:
            if row.error:
                print(f"  {row.method}: {row.error}", file=sys.stderr, flush=True)
    return rows


def write(results: dict, rows: list[Row], folder: Path, name: str) -> None:
    """Write JSON, Markdown and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {**results, "rows": [row.plain() for row in rows]}
    text = json.dumps(plain, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    report = render(results, rows)
    if draw(rows, folder / f"{name}.png"):
        report += f"\n![Time of a training step against the floor]({name}.png)\n"
    (folder / f"{name}.md").write_text(report, encoding="utf-8")
    print(report)
    print(f"written: {folder / name}.json, .md, .png", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    parser = arguments()
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    plan = cpu_plan() if given.device == "cpu" else cuda_plan(given.shape)
    plan = quick_plan() if given.quick else plan
    if given.rounds:
        plan = replace(plan, rounds=given.rounds, imports=given.rounds)
    try:
        pythons, work = find_pythons(given.python), chosen_work(plan, only)
    except ValueError as error:
        parser.error(str(error))
    missing = [name for name in NAMES if name not in pythons]
    left_out = [f"{name}: left out, no environment .venv-bench/{name}" for name in missing]
    for line in left_out:
        print(line, file=sys.stderr)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reftune-bench-") as folder:
        crew = Crew(pythons, Path(folder), given.device, given.threads)
        try:
            rows = measure(crew, work)
        finally:
            crew.dismiss()
    results = {
        "machine": describe_machine(),
        "device": given.device,
        "threads": given.threads,
        "seed": SEED,
        "versions": crew.versions,
        "left out": left_out,
        "seconds": time.perf_counter() - started,
        "bars": judge(rows, given.device),
    }
    size = "quick" if given.quick else given.shape if given.device == "cuda" else ""
    name = "-".join(part for part in (given.device, size, *only) if part)
    write(results, rows, given.out or RESULTS, name)


if __name__ == "__main__":
    main()
