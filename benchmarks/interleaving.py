"""Rounds in turn: every method is timed once per round, one process at a time."""

import time
from collections.abc import Callable

from benchmarks.process import Refused

Samples = dict[str, dict[int, float]]
LEAST = 3


def interleave(
    jobs: dict[str, Callable[[int], float]], rounds: int, budget: float, errors: dict[str, str]
) -> Samples:
    """Return seconds by method and round. Round 0 warms up and is not kept.

    A method that has used up its share of the budget rests after at least three rounds, so that a
    slow peer does not decide how often the others are measured. The order rotates.

    Args:
        jobs: by method, what measures it once, given the number of the round.
        rounds: how many at most, without the first.
        budget: seconds for all methods together.
        errors: where a refusal is noted; its method takes no further part.
    """
    samples: Samples = {name: {} for name in jobs}
    spent = dict.fromkeys(jobs, 0.0)
    for number in range(rounds + 1):
        names = [name for name in jobs if name not in errors]
        shift = number % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            if spent[name] > budget / len(jobs) and len(samples[name]) >= min(LEAST, rounds):
                continue
            started = time.perf_counter()
            try:
                value = jobs[name](number)
            except Refused as error:
                errors[name] = str(error)
                continue
            spent[name] += time.perf_counter() - started
            if number > 0:
                samples[name][number] = value
    return {name: values for name, values in samples.items() if values}
