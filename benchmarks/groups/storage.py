"""Building, saving and loading an adapter: all layers, rank 8, f7+l7 tied."""

from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import Samples
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows
from benchmarks.settings import TIED
from benchmarks.shapes import SHAPES

METHODS = ("reftune", "pyreft", "adapters", "lora_qv")
ROUNDS = 2


def measure_storage(crew: Crew, plan: Plan) -> list[Row]:
    """Time each twice; the base model is loaded already."""
    errors: dict[str, str] = {}
    edits = TIED.described(SHAPES[plan.storage].num_hidden_layers)
    found: dict[str, Samples] = {"build": {}, "save": {}, "load": {}}
    details: dict[str, dict] = {}
    present = crew.keep(METHODS)
    for number in range(ROUNDS + 1):
        for method in present:
            if method in errors:
                continue
            built = attempt(errors, method, partial(crew.build, method, plan.storage, edits, 16))
            ask = partial(crew.worker(method, plan.storage).ask, "save_and_load", seed=number)
            kept = attempt(errors, method, ask) if built is not None else None
            if built is None or kept is None or number == 0:
                continue
            seconds = {"build": built["seconds"], "save": kept["save"], "load": kept["load"]}
            for what, value in seconds.items():
                found[what].setdefault(method, {})[number] = value
            details[method] = {"bytes on disk": kept["bytes"], "files": kept["files"]}
    rows: list[Row] = []
    for what, samples in found.items():
        rows += make_rows(what, f"shape {plan.storage}", samples, errors, {"": "reftune"}, details)
    return rows
