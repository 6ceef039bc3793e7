"""Tasks of one kind together: a table of means, and the paper's figure, a picture per family."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from comparison.cells import slug
from comparison.markdown import table
from comparison.results import Found, Outcome, mark_of_outcome
from comparison.settings import FAMILIES
from reftune.report.estimates import estimate
from reftune.report.figures import Point, score_against_parameters
from reftune.report.naming import metric_of, shown

MEAN = "glue"  # the metric that is the mean of scores of several kinds
ABOUT = (
    "Means over the seeds. The last column is the mean of the tasks, with its 95 % interval over "
    "seeds; it is there for what has been run on all of them."
)


def families(found: Found, pictures: Path) -> str:
    """Return a section with a table and a picture of each family; both of what has been run."""
    parts = []
    for name, tasks in FAMILIES.items():
        measured = {one.name: next(iter(by.values())) for one, by in found.items()}
        columns = {task: measured[task] for task in tasks if task in measured}
        if len(columns) > 1:
            parts.append(_family(name, columns, pictures))
    return "\n\n".join(["## All tasks together", ABOUT, *parts]) if parts else ""


def _family(name: str, columns: Mapping[str, Sequence[Outcome]], pictures: Path) -> str:
    by_method: dict[str, dict[str, Outcome]] = {}
    for task, outcomes in columns.items():
        for one in outcomes:
            by_method.setdefault(one.cell.compared.name, {})[task] = one
    points = [_point(method, of) for method, of in by_method.items() if len(of) == len(columns)]
    means = {point.label: point for point in points}
    rows = []
    for method, of in sorted(by_method.items(), key=lambda item: _parameters(item[1])):
        scores = [_mean(of[task]) if task in of else "" for task in columns]
        rows.append((method, f"{_parameters(of):,}", *scores, _mean_of(means.get(method))))
    header = ["method", "trained", *columns, "mean"]
    lines = [f"### {name}\n", table(header, rows)]
    if points:
        picture = f"{slug(name)}.png"
        figure = score_against_parameters(points, name, MEAN)
        figure.savefig(pictures / picture, dpi=160, bbox_inches="tight")
        lines.append(
            f"\n![{name}: mean of the tasks, against trained parameters](results/{picture})"
        )
    return "\n".join(lines)


def _point(method: str, of: Mapping[str, Outcome]) -> Point:
    """Return the mean of a method over tasks, seed by seed."""
    seeds = zip(*(one.scores for one in of.values()), strict=True)
    over = estimate([statistics.fmean(scores) for scores in seeds])
    first = next(iter(of.values()))
    return Point(method, mark_of_outcome(first), first.parameters, over.mean, over.half_width)


def _parameters(of: Mapping[str, Outcome]) -> int:
    return next(iter(of.values())).parameters


def _mean(one: Outcome) -> str:
    return shown(one.estimate.mean, metric_of(one.metric))


def _mean_of(point: Point | None) -> str:
    if point is None:
        return ""
    metric = metric_of(MEAN)
    if point.half_width is None:
        return shown(point.mean, metric)
    ends = (shown(point.mean + sign * point.half_width, metric) for sign in (-1, 1))
    return f"{shown(point.mean, metric)} [{', '.join(ends)}]"
