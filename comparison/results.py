"""What the cells of the table came to, read from their files."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.cells import FINAL, Cell, cells
from comparison.settings import SEEDS, Studied
from reftune.report.estimates import Estimate, estimate

RESULT, WHY_NOT = "result.json", "why_not.txt"


@dataclass(frozen=True)
class Outcome:
    """A method on a task.

    Attributes:
        cell: which.
        scores: of the seeds, in their order.
        estimate: mean, deviation and interval of them.
        metric: what was measured.
        parameters: how many numbers are trained, a head left out.
        seconds: of a training, the mean over seeds.
        memory_bytes: beyond the model's weights, the most over seeds.
        rate: the learning rate that the search chose.
        at_edge: whether a rate beyond those that were tried may be better.
    """

    cell: Cell
    scores: tuple[float, ...]
    estimate: Estimate
    metric: str
    parameters: int
    seconds: float
    memory_bytes: int
    rate: float
    at_edge: bool


def read_outcome(cell: Cell, folder: Path) -> Outcome | None:
    """Return what a cell in a folder came to, or `None` if it has not been run to its end."""
    result = _read(folder / FINAL / RESULT)
    if result is None:
        return None
    seeds = result["seeds"]
    [(name, _)] = seeds[0]["scores"].items()
    scores = tuple(seed["scores"][name]["value"] for seed in seeds)
    rate = result["experiment"]["training"]["lr"]
    return Outcome(
        cell,
        scores,
        estimate(scores),
        seeds[0]["scores"][name]["metric"],
        seeds[0]["trainable"],
        statistics.fmean(seed["train_seconds"] for seed in seeds),
        max(seed["memory_bytes"] for seed in seeds),
        rate,
        rate in (min(cell.compared.rates), max(cell.compared.rates)),
    )


def why_not(cell: Cell, out: Path) -> str | None:
    """Return why a cell cannot be run, if so."""
    file = cell.folder(out) / WHY_NOT
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def outcomes_of(studied: Studied, out: Path) -> list[Outcome]:
    """Return the finished cells of a task, those that train less first."""
    wanted = [cell for cell in cells() if cell.studied == studied]
    found = [read_outcome(cell, cell.folder(out)) for cell in wanted]
    return sorted((one for one in found if one), key=lambda one: one.parameters)


def differences(one: Outcome, other: Outcome) -> Estimate:
    """Return the mean difference of two methods, seed by seed: they share data and order."""
    assert len(one.scores) == len(other.scores) == len(SEEDS)
    return estimate([a - b for a, b in zip(one.scores, other.scores, strict=True)])


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
