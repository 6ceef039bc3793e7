"""Where the time of a training step goes: torch's profiler, for reftune and the floor.

`python -m benchmarks.profile_step i` writes a table per method into `results/`: operations by the
time that they take themselves.
"""

import argparse
import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from benchmarks.archive import RESULTS
from benchmarks.crew import SEED
from benchmarks.machine import describe_machine
from benchmarks.methods.table import METHODS
from benchmarks.plans import cpu_plan, cuda_plan, quick_plan
from benchmarks.settings import Case
from benchmarks.shapes import SHAPES
from benchmarks.worker.session import Session
from benchmarks.worker.training import build, step

WARM, STEPS, OPERATIONS = 2, 3, 25


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_step", description=__doc__)
    parser.add_argument("setting", help="i, ii, iii, iv, vi-ii or vi-iii")
    parser.add_argument("--length", choices=("short", "long"), default="short", help="of the rows")
    parser.add_argument("--methods", default="floor,reftune", help="of reftune's environment")
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", default="tinyllama-1.1b", help="the model on a GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    return parser


def table(case: Case, method: str, device: str, threads: int, folder: str) -> str:
    """Return the operations of some steps by the time that they take themselves."""
    shape, entry, session = SHAPES[case.shape], METHODS[method], Session()
    session.hello(device, threads)
    given = {"arguments": shape.arguments(), "folder": folder, "name": case.shape, "seed": SEED}
    if device == "cpu":
        session.write(**given)
    session.open(**given, path=entry.path)
    options = {"reuse": False, **entry.options, "prompt": case.rows.prompt}
    build(session, entry.path, case.edits.described(shape.num_hidden_layers), options, None)
    rows = case.rows.given()
    for _ in range(WARM):
        step(session, rows, 0)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=kinds, acc_events=True) as found:
        seeds = [0 if case.repeats else 1 + number for number in range(STEPS)]
        took = [step(session, rows, seed)["seconds"] for seed in seeds]
    averages = found.key_averages()
    listed = averages.table(sort_by=f"self_{device}_time_total", row_limit=OPERATIONS)
    calls = sum(event.count for event in averages) / STEPS
    head = f"{case.name}, {METHODS[method].title}: {min(took):.4f} s at least with the profiler"
    return f"{head}, {calls:.0f} operations a step; {STEPS} steps:\n\n{listed}\n"


def main() -> None:
    """Run the command line."""
    parser = arguments()
    given = parser.parse_args()
    plan = cpu_plan() if given.device == "cpu" else cuda_plan(given.shape)
    plan = quick_plan() if given.quick else plan
    name = f"{given.setting} {given.length}"
    cases = {case.name: case for case in plan.cases}
    if name not in cases:
        parser.error(f"{name!r}: expected one of {sorted(cases)}")
    with tempfile.TemporaryDirectory(prefix="reftune-profile-") as folder:
        parts = [
            table(cases[name], method, given.device, given.threads, folder)
            for method in given.methods.split(",")
        ]
    machine = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"profile-{given.device}-{name.replace(' ', '-')}.txt"
    path.write_text("\n".join([f"{machine}, threads {given.threads}\n", *parts]), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
