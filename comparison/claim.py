"""The claim under test: LoReFT reaches LoRA's score with 10 to 50 times fewer parameters."""

import math
from collections.abc import Mapping, Sequence

from comparison.results import Outcome, differences
from comparison.settings import Studied
from reftune.report.naming import metric_of

PAIRS = (("LoReFT", "LoRA"), ("LoReFT, rank 1", "LoRA"), ("LoReFT", "LoRA, rank 1"))
MARGIN = 0.01  # a difference that nobody would choose a method for


def verdicts(found: Mapping[Studied, Sequence[Outcome]]) -> list[tuple[str, ...]]:
    """Return a row per task and pair: difference, interval, ratio of parameters, verdict."""
    rows = []
    for studied, outcomes in found.items():
        by_name = {one.cell.compared.name: one for one in outcomes}
        for ours, theirs in PAIRS:
            if ours in by_name and theirs in by_name:
                rows.append(_row(studied.name, by_name[ours], by_name[theirs]))
    return rows


def _row(task: str, ours: Outcome, theirs: Outcome) -> tuple[str, ...]:
    difference = differences(ours, theirs)
    half = math.inf if difference.half_width is None else difference.half_width
    low, high = difference.mean - half, difference.mean + half
    factor = metric_of(ours.metric).factor
    return (
        f"{task}: {ours.cell.compared.name} − {theirs.cell.compared.name}",
        f"{factor * difference.mean:+.1f}",
        f"[{factor * low:+.1f}, {factor * high:+.1f}]",
        f"{theirs.parameters / ours.parameters:.1f}",
        verdict(low, high),
    )


def verdict(low: float, high: float) -> str:
    """Say of an interval of differences whether the claim holds.

    >>> verdict(-0.005, 0.02), verdict(-0.05, -0.01), verdict(-0.05, 0.02)
    ('holds', 'fails', 'open')
    """
    if low > -MARGIN:
        return "holds"
    return "fails" if high < 0 else "open"
