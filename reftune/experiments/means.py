"""Scores over seeds."""

import statistics
from collections.abc import Sequence
from typing import Any


def means(seeds: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation over seeds, of each test set and of their average.

    The average is there if there are several sets of one metric, and leaves out those of which
    questions leaked into the training set.
    """
    names = list(seeds[0]["scores"])
    values = {name: [seed["scores"][name]["value"] for seed in seeds] for name in names}
    clean = [name for name in names if not seeds[0]["scores"][name]["leaked"]]
    alike = len({seeds[0]["scores"][name]["metric"] for name in clean}) == 1
    if alike and len(names) > 1:
        by_seed = zip(*(values[name] for name in clean), strict=True)
        values["average"] = [statistics.mean(one) for one in by_seed]
    return {
        name: {
            "mean": statistics.mean(of),
            "deviation": statistics.stdev(of) if len(of) > 1 else None,
        }
        for name, of in values.items()
    }
