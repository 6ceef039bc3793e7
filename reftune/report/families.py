"""Which pictures of scores there are: one per board, but one for all tasks of GLUE with a model."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from reftune.report.figures import Point
from reftune.report.naming import GLUE, task_name
from reftune.report.summary import Board, Entry


@dataclass(frozen=True)
class Picture:
    """What a picture of scores against parameters shows.

    Attributes:
        title: tasks and model.
        metric: see `reftune.report.naming.METRICS`.
        points: those with a score; at least two.
        note: what a reader has to know of them; may be empty.
    """

    title: str
    metric: str
    points: tuple[Point, ...]
    note: str = ""


def glue_families(boards: Sequence[Board]) -> dict[str, list[Board]]:
    """Return the boards of GLUE by model, where there are several and each of another task."""
    families: dict[str, list[Board]] = defaultdict(list)
    for board in boards:
        if board.task in GLUE and board.headline is not None:
            families[board.model].append(board)
    return {
        model: of
        for model, of in families.items()
        if 1 < len(of) == len({board.task for board in of})
    }


def pictures_of(boards: Sequence[Board]) -> list[Picture]:
    """Return the pictures; a board with fewer than two scores has none.

    The tasks of GLUE are one picture of their mean where two methods or more were run on all of
    them.
    """
    means = {model: _mean_picture(model, of) for model, of in glue_families(boards).items()}
    pictures, done = [], set()
    for board in boards:
        mean = means.get(board.model) if board.task in GLUE else None
        if mean is None:
            pictures.append(_picture(board))
        elif board.model not in done:
            pictures.append(mean)
            done.add(board.model)
    return [one for one in pictures if one is not None]


def short_model(model: str) -> str:
    """Return the last part of a model's id or path."""
    return model.rstrip("/").rpartition("/")[2] or model


def _picture(board: Board) -> Picture | None:
    column = board.headline
    if column is None:
        return None
    points = [_point(entry, board) for entry in board.entries]
    known = tuple(one for one in points if one is not None)
    title = f"{task_name(board.task)} · {short_model(board.model)}"
    sets = [one.name for one in board.columns if not (one.leaked or one.averaged)]
    note = f"The score is the average of {', '.join(sets)}." if column.averaged else ""
    return Picture(title, column.metric, known, note) if len(known) > 1 else None


def _point(entry: Entry, board: Board) -> Point | None:
    score = entry.scores.get(board.headline) if board.headline else None
    if score is None or not math.isfinite(score.mean):
        return None
    return Point(entry.label, entry.method, entry.parameters, score.mean, score.half_width)


def _mean_picture(model: str, boards: Sequence[Board]) -> Picture | None:
    """Return the picture of the mean over tasks, of the methods that have all of them.

    Tasks are independent, so the half-widths of their means add up as squares do.
    """
    found: dict[str, list[Point]] = defaultdict(list)
    for board in boards:
        for point in (_point(entry, board) for entry in board.entries):
            if point is not None:
                found[point.label].append(point)
    whole = {label: of for label, of in found.items() if len(of) == len(boards)}
    if len(whole) < 2:
        return None
    points = tuple(_mean_point(of) for of in whole.values())
    names = ", ".join(task_name(board.task) for board in boards)
    note = f"The score is the mean over {names}."
    without = sorted(found.keys() - whole.keys())
    if without:
        note += f" Left out, for want of some of these tasks: {', '.join(without)}."
    return Picture(f"GLUE · {short_model(model)}", "glue", points, note)


def _mean_point(points: Sequence[Point]) -> Point:
    count, first = len(points), points[0]
    widths = [one.half_width for one in points]
    known = [one for one in widths if one is not None]
    half_width = math.sqrt(sum(one**2 for one in known)) / count if len(known) == count else None
    mean = sum(one.mean for one in points) / count
    # Options may differ by task, so the number is that of the largest.
    return Point(first.label, first.method, max(p.parameters for p in points), mean, half_width)
