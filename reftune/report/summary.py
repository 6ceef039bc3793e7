"""Runs summed up: a board per task and model, with a line per method."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reftune.report.estimates import Estimate, estimate
from reftune.report.labels import label_entries
from reftune.report.naming import metric_of
from reftune.report.runs import Run, SeedResult

AVERAGE = "average"


@dataclass(frozen=True)
class Column:
    """A test set with its metric; or the average over the sets that did not leak."""

    name: str
    metric: str
    leaked: bool = False
    averaged: bool = False


@dataclass(frozen=True)
class Entry:
    """A method with one setting on one task, over all its seeds.

    Attributes:
        label: the method's name, with what tells it from others of the method on the board.
        method: the method's key, see `reftune.report.naming.METHODS`.
        runs: those that differ in their seeds alone.
        seeds: of all its runs.
        scores: by column.
        parameters: how many numbers are trained, a head left out.
        seconds: of a training, the mean over seeds.
        memory_bytes: the most over seeds.
    """

    label: str
    method: str
    runs: tuple[Run, ...]
    seeds: tuple[SeedResult, ...]
    scores: dict[Column, Estimate]
    parameters: int
    seconds: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Board:
    """What can be compared: the methods on one task with one model and the same test sets.

    Attributes:
        task: its name.
        model: the base model.
        columns: the test sets, and their average if there are several of one metric.
        entries: a line each, those with fewer parameters first.
    """

    task: str
    model: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]

    @property
    def headline(self) -> Column | None:
        """The column that stands for the task: the average, or else the first set; if any."""
        clean = [one for one in self.columns if not one.leaked]
        return next((one for one in clean if one.averaged), (clean or [*self.columns, None])[0])

    def best(self, column: Column) -> list[Entry]:
        """Return who has the best mean, several if they are equal.

        Nobody is the best of one, or where it is not known which way is better.
        """
        higher = metric_of(column.metric).higher
        means = [
            (one.scores[column].mean, one)
            for one in self.entries
            if column in one.scores and math.isfinite(one.scores[column].mean)
        ]
        if higher is None or len(means) < 2:
            return []
        top = (max if higher else min)(mean for mean, _ in means)
        return [one for mean, one in means if math.isclose(mean, top, rel_tol=1e-12)]


def boards_of(runs: Sequence[Run]) -> list[Board]:
    """Group runs into boards, sorted by task and model."""
    groups: dict[tuple[str, str, tuple[Column, ...]], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.task, run.model, columns_of(run)].append(run)
    return [
        Board(task, model, columns, _entries(group, columns))
        for (task, model, columns), group in sorted(groups.items(), key=lambda one: str(one[0]))
    ]


def columns_of(run: Run) -> tuple[Column, ...]:
    """Return the test sets of a run, in the order of its file, and their average.

    There is an average of two sets or more that did not leak, if they have one metric.
    """
    sets = {
        Column(name, score.metric, score.leaked)
        for one in run.seeds
        for name, score in one.scores.items()
    }
    order = list(dict.fromkeys(name for one in run.seeds for name in one.scores))
    columns = sorted(sets, key=lambda one: (order.index(one.name), one.metric, one.leaked))
    clean = [one for one in columns if not one.leaked]
    metrics = {one.metric for one in clean}
    if len(clean) > 1 and len(metrics) == 1:
        columns.append(Column(AVERAGE, metrics.pop(), averaged=True))
    return tuple(columns)


def _entries(runs: Sequence[Run], columns: tuple[Column, ...]) -> tuple[Entry, ...]:
    """Put runs together that differ in their seeds alone; a seed seen twice stays apart."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda one: one.name):
        mine = {one.seed for one in run.seeds}
        for group in groups:
            theirs = {one.seed for other in group for one in other.seeds}
            if _setting(group[0]) == _setting(run) and not mine & theirs:
                group.append(run)
                break
        else:
            groups.append([run])
    labels = label_entries([group[0] for group in groups])
    entries = [_entry(*one, columns) for one in zip(labels, groups, strict=True)]
    return tuple(sorted(entries, key=lambda one: (one.parameters, one.label)))


def _setting(run: Run) -> str:
    apart = ("seeds", "source")
    said: dict[str, Any] = {k: v for k, v in run.experiment.items() if k not in apart}
    counts = sorted({one.trainable for one in run.seeds})
    return json.dumps([said, dict(run.data), counts], sort_keys=True)


def _entry(label: str, runs: Sequence[Run], columns: tuple[Column, ...]) -> Entry:
    seeds = sorted((one for run in runs for one in run.seeds), key=lambda one: one.seed)
    scores = {}
    for column in columns:
        values = [_value(one, column, columns) for one in seeds]
        known = [value for value in values if value is not None]
        if known:
            scores[column] = estimate(known)
    seconds = [one.train_seconds for one in seeds if one.train_seconds is not None]
    memory = [one.memory_bytes for one in seeds if one.memory_bytes is not None]
    return Entry(
        label=label,
        method=runs[0].method,
        runs=tuple(runs),
        seeds=tuple(seeds),
        scores=scores,
        parameters=max(one.trainable for one in seeds),
        seconds=statistics.fmean(seconds) if seconds else None,
        memory_bytes=max(memory) if memory else None,
    )


def _value(seed: SeedResult, column: Column, columns: tuple[Column, ...]) -> float | None:
    """Return a seed's score, or the average of its scores if it has all of them."""
    if not column.averaged:
        score = seed.scores.get(column.name)
        return None if score is None or score.metric != column.metric else score.value
    clean = [one for one in columns if not (one.leaked or one.averaged)]
    values = [seed.scores[one.name].value for one in clean if one.name in seed.scores]
    return statistics.fmean(values) if len(values) == len(clean) else None
