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
    """Time greedy answers with PEFT's `adapter_names`, and the prompt alone."""
    count, prompt, new = plan.mixed
    rows: list[Row] = []
    errors: dict[str, str] = {}
    edits = TIED.described(SHAPES[plan.shape].num_hidden_layers)
    present = crew.keep(METHODS)
    for method in present:
        attempt(errors, method, partial(_prepare, crew, plan, method, edits))
    case = f"{count} rows, {count} adapters, prompt {prompt}"
    for group, tokens in (("mixed", new), ("mixed prefill", 1)):
        given = {"rows": count, "prompt": prompt, "new": tokens}
        jobs = {m: partial(_answer, crew, m, given) for m in present if m not in errors}
        samples = interleave(jobs, plan.rounds, plan.budget, errors)
        rows += make_rows(group, f"{case}, {tokens} new", samples, errors, {"": "frozen"}, {})
    return rows


def _prepare(crew: Crew, plan: Plan, method: str, edits: dict) -> None:
    count, prompt, _ = plan.mixed
    crew.build(method, plan.shape, edits, prompt)
    crew.worker(method).ask("tenants", count=count)


def _answer(crew: Crew, method: str, given: dict[str, int], number: int) -> float:
    return crew.worker(method).ask("answer_mixed", **given, seed=number)
