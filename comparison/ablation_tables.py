"""The tables of the ablations."""

from collections.abc import Mapping
from pathlib import Path

from comparison.ablations import ABLATED, CHANGES, Variant
from comparison.markdown import table
from comparison.results import Outcome, differences, read_outcomes
from comparison.settings import TASKS
from reftune.report.naming import metric_of, shown

INTRODUCTION = """\
## What matters in LoReFT

One setting is changed at a time; the first line is LoReFT as in the tables above, with its learning
rate, which the others take over: one that needs another rate is judged too low. In brackets is the
95 % interval of the difference to the first line, seed by seed.
"""


def ablation_tables(records: Path) -> str:
    """Return a table per question, with a column per task; nothing if there is no result."""
    tasks = [studied for studied in TASKS if studied.name in ABLATED]
    parts = []
    for question, changes in CHANGES.items():
        found = {
            (studied.name, name): next(iter(read_outcomes(one.cell, one.file(records))), None)
            for studied in tasks
            for name in changes
            for one in [Variant(studied, question, name)]
        }
        first = next(iter(changes))
        done = [
            one.name for one in tasks if sum(found[one.name, n] is not None for n in changes) > 1
        ]
        if done:
            rows = [(name, *(_cell(found, task, name, first) for task in done)) for name in changes]
            parts.append(table([question, *done], rows) + "\n")
    return "\n".join([INTRODUCTION, *parts]) if parts else ""


def _cell(found: Mapping[tuple[str, str], Outcome | None], task: str, name: str, first: str) -> str:
    one, whole = found[task, name], found[task, first]
    if one is None:
        return ""
    metric = metric_of(one.metric)
    mean = shown(one.estimate.mean, metric)
    if whole is None or name == first:
        return mean
    difference = differences(one, whole)
    assert difference.half_width is not None
    ends = (difference.mean + sign * difference.half_width for sign in (-1, 1))
    low, high = (f"{metric.factor * end:+.1f}" for end in ends)
    return f"{mean} [{low}, {high}]"
