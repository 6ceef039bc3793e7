"""What a classifier's answers are worth: one number for all rows of a set.

GLUE's metrics, as its own scripts compute them:
https://huggingface.co/spaces/evaluate-metric/glue/blob/main/glue.py
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reftune.tasks.task import Score

Numbers = Sequence[int] | Sequence[float]


def accuracy(found: Numbers, answers: Numbers) -> float:
    """Return the share of rows that are right."""
    return sum(f == a for f, a in zip(found, answers, strict=True)) / len(answers)


def matthews(found: Numbers, answers: Numbers) -> float:
    """Return Matthews' correlation of class indices, for two or more classes.

    It is the covariance of the classes' indicators over its largest value, which of two classes is
    the correlation of 0 and 1 (Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006).
    """
    count = int(max(*found, *answers)) + 1
    one, two = (
        torch.nn.functional.one_hot(torch.tensor(x), count).double() for x in (found, answers)
    )
    return _correlation(one - one.mean(dim=0), two - two.mean(dim=0))


def pearson(found: Numbers, answers: Numbers) -> float:
    """Return Pearson's correlation."""
    one, two = (torch.tensor(x, dtype=torch.float64) for x in (found, answers))
    return _correlation(one - one.mean(), two - two.mean())


def _correlation(one: Tensor, two: Tensor) -> float:
    """Correlate centred values; what does not vary has the correlation 0."""
    scale = one.norm() * two.norm()
    return float((one * two).sum() / scale) if scale > 1e-9 else 0.0


METRICS: dict[str, Callable[[Numbers, Numbers], float]] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "pearson": pearson,
}


def measure(metric: str, found: Numbers, answers: Numbers) -> dict[str, Any]:
    """Return the score of a set: metric, value, number of rows, and a 95% interval.

    Only an accuracy has an interval, see `reftune.tasks.task.Score.interval`.
    """
    total, interval = len(answers), None
    if metric == "accuracy":
        right = sum(f == a for f, a in zip(found, answers, strict=True))
        interval = list(Score(right, total).interval())
    value = METRICS[metric](found, answers)
    return {"metric": metric, "value": value, "total": total, "interval": interval}
