"""Training steps: seconds, peak memory, FLOPs and bytes, of every method of a case."""

from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import interleave
from benchmarks.methods.table import WITH_MATRICES
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows
from benchmarks.settings import Case
from benchmarks.shapes import SHAPES

TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2}  # of losses; bfloat16 has three digits
COUNTED = ("floor", "reftune")
CHECK_SEED, COUNT_SEED = 1000, 2000


def measure_steps(crew: Crew, plan: Plan, case: Case) -> list[Row]:
    """Build every method, compare their losses, and time steps in turn."""
    errors: dict[str, str] = {}
    details: dict[str, dict] = {}
    edits = case.edits.described(SHAPES[case.shape].num_hidden_layers)
    matrices = crew.edits(case.setting, case.shape, edits)
    for method in crew.keep(case.methods):
        given = (method, case.shape, edits, case.rows.prompt, matrices)
        built = attempt(errors, method, partial(crew.build, *given, reuse=False))
        if built is not None:
            details[method] = {"trained parameters": built["parameters"]}
    for method, losses in _losses(crew, case, errors, details).items():
        details[method].update(losses)
    jobs = {m: partial(_step, crew, m, case, details[m]) for m in details if m not in errors}
    samples = interleave(jobs, plan.rounds, case.budget, errors)
    for method in COUNTED:
        if method in samples:
            given = {"rows": case.rows.given(), "seed": COUNT_SEED}
            work = partial(crew.worker(method).ask, "step_counts", **given)
            details[method].update(attempt(errors, method, work) or {})
    references = {"": "floor", "reftune_compiled": "floor_compiled"}
    return make_rows("steps", case.name, samples, errors, references, details)


def _step(crew: Crew, method: str, case: Case, details: dict, number: int) -> float:
    # New rows in every round, unless it is about seeing rows again: the warm-up saw these.
    seed = 0 if case.repeats else number
    done = crew.worker(method).ask("step", rows=case.rows.given(), seed=seed)
    details["peak bytes"] = done["peak"]  # of the last round
    return done["seconds"]


def _losses(crew: Crew, case: Case, errors: dict[str, str], details: dict) -> dict[str, dict]:
    """Hold the first losses against each other; a method whose loss is wrong is not timed."""
    given, found = {"rows": case.rows.given(), "seed": CHECK_SEED}, {}
    for method in details:
        work = partial(crew.worker(method).ask, "loss", **given, frozen=False)
        loss = attempt(errors, method, work)
        if loss is not None:
            found[method] = {"first loss": loss}
    groups = (WITH_MATRICES, ("frozen", "frozen_pyreft", "frozen_adapters", "floor", "lora_qv"))
    for group in groups:
        present = [method for method in group if method in found]
        for method in present[1:]:
            expected, got = found[present[0]]["first loss"], found[method]["first loss"]
            if abs(expected - got) > TOLERANCE[crew.device]:
                errors[method] = f"first loss {got}: expected {expected}, as {present[0]} has"
            found[method]["loss compared with"] = present[0]
    return found
