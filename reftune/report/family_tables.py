"""The table of one model on all tasks of GLUE, as papers have it."""

import math
import statistics
from collections.abc import Sequence

from reftune.report.families import short_model
from reftune.report.naming import METRICS, metric_of, shown, task_name
from reftune.report.summary import Board, Entry
from reftune.report.tables import NOTHING, Cell, Table, score_cell


def family_table(model: str, boards: Sequence[Board]) -> Table:
    """Return the scores of a model on tasks of GLUE, a column each, and their mean.

    Args:
        boards: of the model, one per task, each with a score, as `glue_families` gives them.
    """
    labels = {entry.label for board in boards for entry in board.entries}
    found = {label: [_entry(board, label) for board in boards] for label in labels}
    means = {label: _mean(boards, of) for label, of in found.items()}
    counts = {label: max(one.parameters for one in of if one) for label, of in found.items()}
    known = [mean for mean in means.values() if mean is not None]
    best = max(known) if len(known) > 1 else None
    lines = []
    for label in sorted(labels, key=lambda one: (counts[one], one)):
        mean = means[label]
        scores = [_cell(board, one) for board, one in zip(boards, found[label], strict=True)]
        average = (
            Cell(NOTHING)
            if mean is None
            else Cell(shown(mean, METRICS["glue"]), best is not None and math.isclose(mean, best))
        )
        cells = (*scores, average, Cell(f"{counts[label]:,}"))
        lines.append((Cell(label, number=False), *cells))
    names = [task_name(board.task) for board in boards]
    metrics = sorted({metric_of(_metric(board)).label for board in boards})
    note = (
        f"Mean ± standard deviation over seeds of: {', '.join(metrics)}. The mean is over the "
        "tasks, of a method that has all of them. ★ marks the best mean."
    )
    header = ("method", *names, "mean", "trained parameters")
    return Table(f"GLUE · {short_model(model)}", note, header, tuple(lines))


def _entry(board: Board, label: str) -> Entry | None:
    return next((one for one in board.entries if one.label == label), None)


def _metric(board: Board) -> str:
    return board.headline.metric if board.headline is not None else ""


def _cell(board: Board, entry: Entry | None) -> Cell:
    column = board.headline
    if entry is None or column is None:
        return Cell(NOTHING)
    return score_cell(entry, column, entry in board.best(column))


def _mean(boards: Sequence[Board], entries: Sequence[Entry | None]) -> float | None:
    """Return the mean over tasks, `None` if a task has no score."""
    values = []
    for board, entry in zip(boards, entries, strict=True):
        score = entry.scores.get(board.headline) if entry and board.headline else None
        if score is None or not math.isfinite(score.mean):
            return None
        values.append(score.mean)
    return statistics.fmean(values)
