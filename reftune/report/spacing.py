"""Where marks and lines stand in a picture: apart from each other, smoothed, and not too many."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

Points = Sequence[tuple[int, float]]

NEAR = 0.02  # of the axis: numbers so near would be drawn on each other
STEP = 0.03  # of the axis, between marks that stand side by side
MOST = 400  # points of a line; more are not seen


def decades(counts: Sequence[int]) -> tuple[int, int]:
    """Return the powers of ten that an axis begins and ends with: none of the numbers is near them.

    Args:
        counts: more than 0 each.
    """
    first, last = math.log10(min(counts)), math.log10(max(counts))
    return math.floor(first - 0.15), math.ceil(last + 0.15)


def beside(counts: Sequence[int]) -> list[float]:
    """Return where to draw numbers on a logarithmic axis so that none covers another.

    Numbers that are near to the one before them make a row around their middle.

    Args:
        counts: more than 0 each.
    """
    if not counts:
        return []
    first, last = decades(counts)
    rows: list[list[int]] = []
    for number in sorted(range(len(counts)), key=lambda one: counts[one]):
        row = rows[-1] if rows else []
        if row and math.log10(counts[number] / counts[row[-1]]) < NEAR * (last - first):
            row.append(number)
        else:
            rows.append([number])
    places = [float(count) for count in counts]
    for row in rows:
        middle = sum(math.log10(counts[one]) for one in row) / len(row)
        for at, number in enumerate(row if len(row) > 1 else []):
            shift = STEP * (last - first) * (at - (len(row) - 1) / 2)
            places[number] = 10 ** (middle + shift)
    return places


def smoothed(points: Points) -> list[tuple[int, float]]:
    """Return running means over a twentieth of the range of steps, centred at each point."""
    steps = [step for step, _ in points]
    sums = list(accumulate((value for _, value in points), initial=0.0))
    reach = (steps[-1] - steps[0]) / 40
    result = []
    for step in steps:
        first, last = bisect_left(steps, step - reach), bisect_right(steps, step + reach)
        result.append((step, (sums[last] - sums[first]) / (last - first)))
    return result


def thinned(points: Points) -> list[tuple[int, float]]:
    """Return at most about 400 points, evenly taken, the first and the last among them."""
    every = math.ceil(len(points) / MOST)
    kept = list(points[::every])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
