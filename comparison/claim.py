"""The claim under test: LoReFT reaches LoRA's score with 10 to 50 times fewer parameters."""

import math
from collections.abc import Sequence

from comparison.results import Found, Outcome, differences
from comparison.scores import difference_shown, score_label
from comparison.settings import HEAD_ONLY, ONE_ANSWER, UNTRAINED
from reftune.report.naming import metric_of

PAIRS = (
    ("LoReFT", "LoRA"),
    ("LoReFT, every token", "LoRA"),
    ("LoReFT, rank 1", "LoRA"),
    ("LoReFT", "LoRA, rank 1"),
)
WITHOUT = (UNTRAINED.name, ONE_ANSWER.name, HEAD_ONLY.name)  # what there is without any method
NOTHING = "nothing to reach"
MARGIN = 0.01  # points / 100, or nats: a difference that nobody would choose a method for


def verdicts(found: Found) -> list[tuple[str, ...]]:
    """Return a row per task, score and pair: difference, interval, ratio of parameters, verdict."""
    rows = []
    for studied, by_metric in found.items():
        for metric, outcomes in by_metric.items():
            label = f" ({score_label(studied, metric)})" if len(by_metric) > 1 else ""
            by_name = {one.cell.compared.name: one for one in outcomes}
            for ours, theirs in PAIRS:
                if ours in by_name and theirs in by_name:
                    without = [by_name[name] for name in WITHOUT if name in by_name]
                    pair = by_name[ours], by_name[theirs]
                    rows.append(_row(studied.name + label, *pair, without))
    return rows


def _row(task: str, ours: Outcome, theirs: Outcome, without: Sequence[Outcome]) -> tuple[str, ...]:
    difference, metric = differences(ours, theirs), metric_of(ours.metric)
    half = math.inf if difference.half_width is None else difference.half_width
    low, high = difference.mean - half, difference.mean + half
    mean, *ends = (difference_shown(one, metric) for one in (difference.mean, low, high))
    # Of a loss, less is better: a gain is what it falls by.
    gain = (-high, -low) if metric.higher is False else (low, high)
    return (
        f"{task}: {ours.cell.compared.name} − {theirs.cell.compared.name}",
        mean,
        f"[{', '.join(ends)}]",
        f"{theirs.parameters / ours.parameters:.1f}",
        verdict(*gain) if all(_is_better(theirs, base) for base in without) else NOTHING,
    )


def _is_better(one: Outcome, base: Outcome) -> bool:
    """Whether the interval of a method lies on the good side of what there is without any."""
    half = math.inf if one.estimate.half_width is None else one.estimate.half_width
    gain = one.estimate.mean - base.estimate.mean
    return gain < -half if metric_of(one.metric).higher is False else gain > half


def verdict(low: float, high: float) -> str:
    """Say of an interval of gains, more is better, whether the claim holds.

    >>> verdict(-0.005, 0.02), verdict(-0.05, -0.01), verdict(-0.05, 0.02)
    ('holds', 'fails', 'open')
    """
    if low > -MARGIN:
        return "holds"
    return "fails" if high < 0 else "open"
