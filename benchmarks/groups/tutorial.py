"""The tutorial as a whole (v): ten examples, a hundred epochs, one layer, rank 4, last token."""

import statistics
from functools import partial
from itertools import pairwise

from benchmarks.crew import Crew, attempt
from benchmarks.methods.table import METHODS
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows
from benchmarks.settings import ONE, Rows
from benchmarks.shapes import SHAPES

EXAMPLES = 10
PEERS = ("reftune", "reftune_no_reuse", "pyreft", "lora_qv")


def measure_tutorial(crew: Crew, plan: Plan) -> list[Row]:
    """Train by every method's own Trainer; total seconds, by prompt length."""
    rows: list[Row] = []
    edits = ONE.described(SHAPES[plan.shape].num_hidden_layers)
    for prompt in plan.prompts:
        errors: dict[str, str] = {}
        samples, details = {}, {}
        for method in crew.keep(PEERS):
            done = attempt(errors, method, partial(_train, crew, plan, method, prompt, edits))
            if done is not None:
                ends = done["ends"]
                samples[method] = {0: total_seconds(ends, done["seconds"], plan.epochs)}
                details[method] = {"epochs run": len(ends), "first epoch": ends[0]}
        case = f"v prompt {prompt}"
        references = {"": "pyreft", "pyreft": ""}
        rows += make_rows("tutorial", case, samples, errors, references, details)
    return rows


def total_seconds(ends: list[float], seconds: float, epochs: int) -> float:
    """Return how long all epochs take: measured, or the rest at the median of the later ones."""
    if len(ends) >= epochs:
        return seconds
    steps = [after - before for before, after in pairwise(ends)]
    return seconds + (epochs - len(ends)) * statistics.median(steps)


def _train(crew: Crew, plan: Plan, method: str, prompt: int, edits: dict) -> dict:
    entry = METHODS[method]
    return crew.worker(method, plan.shape).ask(
        "train_tutorial",
        path=entry.path,
        edits=edits,
        options={**entry.options, "prompt": prompt},
        rows=Rows(EXAMPLES, prompt, plan.completion).given(),
        epochs=plan.epochs,
        budget=plan.tutorial,
    )
