"""The search of a learning rate: which of those that were tried is the best, and which is next."""

from collections.abc import Mapping, Sequence


def best_rate(values: Mapping[float, float]) -> float:
    """Return the rate with the most; of equals the highest, as the others have learned no more."""
    return max(values, key=lambda rate: (values[rate], rate))


def rate_between(values: Mapping[float, float]) -> float:
    """Return the rate between the best and the better of its neighbours.

    Args:
        values: more is better, of rates a decade apart.
    """
    rates, best = sorted(values), best_rate(values)
    at = rates.index(best)
    beside = {rate: values[rate] for rate in rates[max(at - 1, 0) : at + 2] if rate != best}
    return float(f"{3 * min(best, best_rate(beside)):g}")


def is_whole(search: Mapping[str, float], begun: Sequence[float], chosen: float) -> bool:
    """Whether a search, as records keep it, went to its end, and a rate is what came of it."""
    values = {float(rate): value for rate, value in search.items()}
    if not values.keys() >= set(begun):
        return False
    between = rate_between({rate: values[rate] for rate in begun})
    return values.keys() == {*begun, between} and best_rate(values) == chosen
