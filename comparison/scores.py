"""How the scores of a task are called and written, and which is the best."""

import math
from collections.abc import Sequence

from comparison.results import Outcome
from comparison.settings import Studied
from reftune.report.naming import Metric, deviation_shown, metric_of, shown


def score_label(studied: Studied, metric: str) -> str:
    """Return what a score of a task is called, with its unit."""
    return studied.labels.get(metric) or metric_of(metric).label


def difference_shown(value: float, metric: Metric) -> str:
    """Write a difference of scores with its sign: points, or nats to three digits."""
    return f"{100 * value:+.1f}" if metric.hundredfold else f"{value:+.3f}"


def score_cells(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return the texts of score and interval, a pair per outcome; the best mean is bold."""
    metric = metric_of(outcomes[0].metric)
    known = [one.estimate.mean for one in outcomes if math.isfinite(one.estimate.mean)]
    best = (min if metric.higher is False else max)(known, default=math.nan)
    return [_cells(one, metric, one.estimate.mean == best) for one in outcomes]


def _cells(one: Outcome, metric: Metric, best: bool) -> tuple[str, str]:
    of = one.estimate
    mean = f"**{shown(of.mean, metric)}**" if best else shown(of.mean, metric)
    if of.deviation is None or of.half_width is None:
        return mean, ""
    low, high = (of.mean + sign * of.half_width for sign in (-1, 1))
    return (
        f"{mean} ± {deviation_shown(of.deviation, metric)}",
        f"[{shown(low, metric)}, {shown(high, metric)}]",
    )
