"""Measure reftune beside its peers: `python -m benchmarks --help`, or `make bench`."""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.archive import RESULTS, Archive, open_archive, read
from benchmarks.crew import SEED, Crew
from benchmarks.environment import ask
from benchmarks.groups.generation import measure_decoding, measure_generation
from benchmarks.groups.imports import measure_imports
from benchmarks.groups.mixed import measure_mixed
from benchmarks.groups.orthonormal import measure_orthonormal
from benchmarks.groups.steps import measure_steps
from benchmarks.groups.storage import measure_storage
from benchmarks.groups.tenants import measure_tenants
from benchmarks.groups.tutorial import measure_tutorial
from benchmarks.machine import describe_machine
from benchmarks.picture import draw
from benchmarks.plans import Plan, cpu_plan, cuda_plan, quick_plan
from benchmarks.process import Refused
from benchmarks.pythons import NAMES, ROOT, find_pythons
from benchmarks.report import render
from benchmarks.rows import Row

STEPS = ("i", "ii", "iii", "iv", "vi", "memory")
GROUPS: dict[str, Callable[[Crew, Plan], list[Row]]] = {
    "v": measure_tutorial,
    "tenants": measure_tenants,
    "generation": measure_generation,
    "decoding": measure_decoding,
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
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the results (benchmarks/results)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--report", action="store_true", help="write the report anew, no more")
    return parser


Work = dict[str, Callable[[Crew], list[Row]]]


def all_work(plan: Plan) -> Work:
    """Return what can be measured, by name, in the order of the report."""
    work: Work = {case.name: partial(measure_steps, plan=plan, case=case) for case in plan.cases}
    for name, one in GROUPS.items():
        work[name] = partial(_with_plan, one, plan)
    return work


def _with_plan(one: Callable[[Crew, Plan], list[Row]], plan: Plan, crew: Crew) -> list[Row]:
    return one(crew, plan)


def chosen(work: Work, only: list[str]) -> Work:
    """Return the part of the work that `--only` names; all of it if it names nothing.

    Raises:
        ValueError: a name is unknown.
    """
    unknown = set(only) - set(STEPS) - set(GROUPS) - set(work)
    if unknown:
        raise ValueError(f"--only {sorted(unknown)}: expected some of {[*STEPS, *GROUPS]}")
    # The steps of a setting are several: "vi-ii short" is of "vi".
    wanted = {n for n in work if n in only or re.split("[ -]", n)[0] in only}
    return {n: one for n, one in work.items() if not only or n in wanted}


def measure(crew: Crew, work: Work, archive: Archive, run: dict, order: list[str]) -> None:
    """Measure one after another, say how long each took, and keep it at once."""
    for name, one in work.items():
        started = time.perf_counter()
        try:
            found = one(crew)
        except Refused as error:  # a worker that everything depends on
            found = [Row(name, name, "reftune", error=str(error))]
        seconds = time.perf_counter() - started
        archive.replace(name, found, {"seconds": seconds, **run}, order)
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        for row in found:
            if row.error:
                print(f"  {row.method}: {row.error}", file=sys.stderr, flush=True)


def write_report(archive: Archive) -> None:
    """Write Markdown and the picture beside the file of the results."""
    path, report = archive.path, render(archive)
    if draw(archive.rows, path.with_suffix(".png")):
        report += f"\n![Time of a training step against the floor]({path.stem}.png)\n"
    path.with_suffix(".md").write_text(report, encoding="utf-8")
    print(report)
    print(f"written: {path.with_suffix('')}.json, .md, .png", file=sys.stderr)


def describe_environments(pythons: dict[str, str], device: str) -> dict[str, dict[str, str]]:
    """Return the versions in every environment; one that does not run is taken out.

    Raises:
        ValueError: reftune's own does not run.
    """
    versions = {}
    for name, python in list(pythons.items()):
        found = ask(python, device, ROOT)
        if found is not None:
            versions[name] = found
        elif name == "reftune":
            raise ValueError(f"{python}: does not run, or has no {device}")
        else:
            pythons.pop(name)
    return versions


def main() -> None:
    """Run the command line."""
    parser = arguments()
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    plan = cpu_plan() if given.device == "cpu" else cuda_plan(given.shape)
    plan = quick_plan() if given.quick else plan
    if given.rounds:
        plan = replace(plan, rounds=given.rounds, imports=given.rounds)
    size = "quick" if given.quick else given.shape if given.device == "cuda" else ""
    path = given.out / f"{'-'.join(part for part in (given.device, size) if part)}.json"
    if given.report:
        write_report(read(path))
        return
    everything = all_work(plan)
    about = {"machine": describe_machine(), "device": given.device, "threads": given.threads}
    try:
        work, pythons = chosen(everything, only), find_pythons(given.python)
        versions = describe_environments(pythons, given.device)
        archive = open_archive(path, {**about, "seed": SEED}, versions, given.fresh)
    except ValueError as error:
        parser.error(str(error))
    left_out = [name for name in NAMES if name not in pythons]
    for name in left_out:
        print(f"{name}: left out, no environment that runs", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="reftune-bench-") as folder:
        crew = Crew(pythons, Path(folder), given.device, given.threads)
        run = {"rounds": plan.rounds, "left out": left_out}
        try:
            measure(crew, work, archive, run, list(everything))
        finally:
            crew.dismiss()
    write_report(archive)


if __name__ == "__main__":
    main()
