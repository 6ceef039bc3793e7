"""What the cells of the table came to, read from their files."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comparison.cells import Cell, cells
from comparison.records import read_record
from comparison.settings import NONE, Studied
from reftune.report.estimates import Estimate, estimate


@dataclass(frozen=True)
class Outcome:
    """A method on a task.

    Attributes:
        cell: which.
        seeds: that it was run with.
        scores: of the seeds, in their order; one of a base model, which needs no seed.
        estimate: mean, deviation and interval of them.
        metric: what was measured.
        parameters: how many numbers are trained, a head left out.
        seconds: of a processor for a training, the mean over seeds; `None` if nothing is trained.
        memory_bytes: beyond the model's weights, the most over seeds; `None` likewise.
        rate: the learning rate that the search chose; `None` likewise.
        at_edge: whether a rate beyond those that were tried may be better.
    """

    cell: Cell
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    estimate: Estimate
    metric: str
    parameters: int
    seconds: float | None
    memory_bytes: int | None
    rate: float | None
    at_edge: bool


Found = Mapping[Studied, Mapping[str, Sequence[Outcome]]]  # outcomes by task and metric


def read_outcomes(cell: Cell, file: Path) -> list[Outcome]:
    """Return what a cell came to by its record, one outcome for each score that its task has.

    There is none if it has not been run to its end.
    """
    result = read_record(file)
    if result is None:
        return []
    seeds = result["seeds"]
    rate = result["experiment"]["training"].get("lr")
    tried = [float(rate) for rate in result.get("search", ())]
    trained = bool(cell.compared.rates)
    costs = {
        "seeds": tuple(seed["seed"] for seed in seeds),
        "parameters": seeds[0]["trainable"],
        "seconds": statistics.fmean(s["processor_seconds"] for s in seeds) if trained else None,
        "memory_bytes": max(s["memory_bytes"] for s in seeds) if trained else None,
        "rate": rate,
        "at_edge": bool(tried) and rate in (min(tried), max(tried)),
    }
    outcomes = []
    for name, score in seeds[0]["scores"].items():
        scores = tuple(seed["scores"][name]["value"] for seed in seeds)
        kinds = {"estimate": estimate(scores), "metric": score["metric"]}
        outcomes.append(Outcome(cell, scores=scores, **kinds, **costs))
    return outcomes


def outcomes_of(studied: Studied, records: Path) -> dict[str, list[Outcome]]:
    """Return the finished cells of a task by metric, those that train less first.

    There are none as long as nothing has been trained for it.
    """
    found: dict[str, list[Outcome]] = {}
    for cell in cells():
        if cell.studied == studied:
            for one in read_outcomes(cell, cell.file(records)):
                found.setdefault(one.metric, []).append(one)
    if all(one.rate is None for of in found.values() for one in of):
        return {}
    return {name: sorted(of, key=lambda one: one.parameters) for name, of in found.items()}


def differences(one: Outcome, other: Outcome) -> Estimate:
    """Return the mean difference of two methods, seed by seed: they share data and order."""
    assert one.seeds == other.seeds
    return estimate([a - b for a, b in zip(one.scores, other.scores, strict=True)])


def mark_of_outcome(outcome: Outcome) -> str:
    """Return the key of a method by which pictures choose its mark."""
    compared = outcome.cell.compared
    if compared.method == "reft":
        return str(compared.options.get("intervention", "loreft"))
    return compared.method if outcome.cell.is_trained else NONE
