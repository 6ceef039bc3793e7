"""The tables of a page, as texts: what stands in each cell, and which cells are marked."""

from collections.abc import Sequence
from dataclasses import dataclass

from reftune.report.estimates import Estimate
from reftune.report.families import short_model
from reftune.report.naming import (
    Metric,
    bytes_shown,
    deviation_shown,
    metric_of,
    seconds_shown,
    shown,
    task_name,
)
from reftune.report.reading import Training
from reftune.report.summary import Board, Column, Entry

NOTHING = "–"
COSTS = ("trained parameters", "training time", "memory", "seeds")


@dataclass(frozen=True)
class Cell:
    """A text, whether it is the best of its column, and whether it is a number."""

    text: str
    best: bool = False
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table: the first cell of a line names the line."""

    title: str
    note: str
    header: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]


def score_table(board: Board) -> Table:
    """Return the scores of a board: mean and standard deviation over seeds, and what they cost."""
    best = {column: board.best(column) for column in board.columns}
    lines = []
    for entry in board.entries:
        scores = [score_cell(entry, column, entry in best[column]) for column in board.columns]
        lines.append((Cell(entry.label, number=False), *scores, *_costs(entry)))
    metrics = sorted({metric_of(one.metric).label for one in board.columns})
    parts = [f"Mean ± standard deviation over seeds of: {', '.join(metrics)}." if metrics else ""]
    if any(one.averaged for one in board.columns):
        clean = "that are not marked" if any(one.leaked for one in board.columns) else "before it"
        parts.append(f"The average is over the test sets {clean}.")
    if any(one.leaked for one in board.columns):
        parts.append("* Questions of this set are in the training set.")
    if any(best.values()):
        parts.append("★ marks the best mean.")
    if not board.columns:
        parts.append("No program scores the answers of this task.")
    header = ("method", *(_heading(one, len(metrics) > 1) for one in board.columns), *COSTS)
    title = f"{task_name(board.task)} · {short_model(board.model)}"
    return Table(title, " ".join(filter(None, parts)), header, tuple(lines))


def best_table(boards: Sequence[Board]) -> Table | None:
    """Return who is best on each board, where there is a best."""
    lines = []
    for board in boards:
        column = board.headline
        if column is None:
            continue
        for entry in board.best(column):
            metric = metric_of(column.metric)
            cells = (
                Cell(task_name(board.task), number=False),
                Cell(entry.label, number=False),
                Cell(written(entry.scores[column], metric)),
                Cell(metric.label, number=False),
                Cell(f"{entry.parameters:,}"),
                Cell(short_model(board.model), number=False),
            )
            lines.append(cells)
    header = ("task", "best method", "score", "metric", "trained parameters", "model")
    note = "The best mean on each task where several methods were run."
    return Table("Best methods", note, header, tuple(lines)) if lines else None


def training_table(trainings: Sequence[Training]) -> Table:
    """Return the trainings that belong to no experiment."""
    lines = []
    for one in trainings:
        losses, held_out = one.curve.training, one.curve.held_out
        cells = (
            Cell(f"{one.parameters:,}" if one.parameters is not None else NOTHING),
            Cell(f"{max(losses)[0]:,}" if losses else NOTHING),
            Cell(f"{losses[-1][1]:.4g}" if losses else NOTHING),
            Cell(f"{held_out[-1][1]:.4g}" if held_out else NOTHING),
            Cell(seconds_shown(one.seconds) if one.seconds is not None else NOTHING),
            Cell("finished" if one.finished else "interrupted", number=False),
        )
        lines.append((Cell(one.name, number=False), *cells))
    header = ("folder", "parameters", "steps", "last loss", "held out", "time", "state")
    note = "Losses are in nats per completion token."
    return Table("Folders of reftune train", note, header, tuple(lines))


def written(score: Estimate, metric: Metric) -> str:
    """Write a mean and its deviation, which one seed does not have."""
    text = shown(score.mean, metric)
    return (
        text if score.deviation is None else f"{text} ± {deviation_shown(score.deviation, metric)}"
    )


def score_cell(entry: Entry, column: Column, best: bool) -> Cell:
    """Return the cell of a score, which the entry may lack."""
    score = entry.scores.get(column)
    return Cell(NOTHING if score is None else written(score, metric_of(column.metric)), best)


def _costs(entry: Entry) -> tuple[Cell, ...]:
    seconds, memory = entry.seconds, entry.memory_bytes
    return (
        Cell(f"{entry.parameters:,}"),
        Cell(NOTHING if seconds is None else seconds_shown(seconds)),
        Cell(NOTHING if memory is None else bytes_shown(memory)),
        Cell(", ".join(str(one.seed) for one in entry.seeds), number=False),
    )


def _heading(column: Column, with_metric: bool) -> str:
    metric = f" ({metric_of(column.metric).label})" if with_metric else ""
    return f"{column.name}{'*' if column.leaked else ''}{metric}"
