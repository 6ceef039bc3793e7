"""Orthonormal rows alone, forward and backward: torch's parametrisation against reftune's chart."""

from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows

RANKS = (4, 8)
# By chart, in whose worker it runs. torch's takes near a second and 64 MiB per matrix at width
# 4096, matrix by matrix: of a stack one is measured, and its seconds are multiplied.
CHARTS = {"torch": "floor", "reftune": "reftune"}


def measure_orthonormal(crew: Crew, plan: Plan) -> list[Row]:
    """Time both for several widths, ranks and stacks."""
    rows: list[Row] = []
    for width in plan.widths:
        for rank in RANKS:
            for stack in plan.stacks:
                rows += _measure(crew, plan, width, rank, stack)
    return rows


def _measure(crew: Crew, plan: Plan, width: int, rank: int, stack: int) -> list[Row]:
    errors: dict[str, str] = {}
    details: dict[str, dict] = {}
    jobs = {}
    for chart, worker in CHARTS.items():
        count = 1 if chart == "torch" else stack
        given = {"chart": chart, "stack": count, "rank": rank, "width": width}
        prepared = partial(crew.worker(worker).ask, "orthonormal_prepare", **given)
        size = attempt(errors, chart, prepared)
        if size is None:
            continue
        work = partial(crew.worker(worker).ask, "orthonormal_peak", seed=0)
        peak = attempt(errors, chart, work)
        details[chart] = {"peak bytes": peak, "parameter bytes": size, "matrices": count}
        jobs[chart] = partial(_seconds, crew, worker, stack / count)
    samples = interleave(jobs, plan.rounds, plan.budget / 10, errors)
    case = f"width {width}, rank {rank}, {stack} at once"
    return make_rows("orthonormal", case, samples, errors, {"": "torch"}, details)


def _seconds(crew: Crew, worker: str, times: float, number: int) -> float:
    return times * crew.worker(worker).ask("orthonormal_seconds", seed=number)
