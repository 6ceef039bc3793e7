"""Mean, deviation and interval of a value over seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The 97.5% quantiles of Student's t with 1 to 10 degrees of freedom.
# https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A value over seeds.

    Attributes:
        mean: of the values.
        deviation: the sample's standard deviation, with n - 1; `None` of one value.
        half_width: of the 95% interval of the mean by Student's t; `None` of one value.
        count: how many values there are.
    """

    mean: float
    deviation: float | None
    half_width: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Return the estimate of at least one value; of a value that is not finite, nothing is known.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("an estimate of no values; expected at least one")
    count = len(values)
    if not all(math.isfinite(value) for value in values):
        return Estimate(math.nan, None, None, count)
    if count == 1:
        return Estimate(float(values[0]), None, None, 1)
    deviation = statistics.stdev(values)
    half_width = student_quantile(count - 1) * deviation / math.sqrt(count)
    return Estimate(statistics.fmean(values), deviation, half_width, count)


def student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t, to three decimals.

    From 11 degrees of freedom on it is the expansion about the normal quantile, Abramowitz and
    Stegun, 26.7.5.
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    x = NORMAL
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return x + sum(term / freedom**power for power, term in enumerate(terms, start=1))
