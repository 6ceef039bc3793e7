"""Scores over seeds."""

import statistics
from collections.abc import Sequence
from typing import Any

from reftune.report.estimates import estimate


def means(seeds: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation over seeds, of each test set and of their average.

    The average is there if there are several sets of one metric, those left out of which questions
    leaked into the training set. Where a value is not finite, the mean is NaN.
    """
    names = list(seeds[0]["scores"])
    values = {name: [seed["scores"][name]["value"] for seed in seeds] for name in names}
    clean = [name for name in names if not seeds[0]["scores"][name]["leaked"]]
    alike = len({seeds[0]["scores"][name]["metric"] for name in clean}) == 1
    if alike and len(clean) > 1:
        by_seed = zip(*(values[name] for name in clean), strict=True)
        values["average"] = [statistics.fmean(one) for one in by_seed]
    found = {name: estimate(of) for name, of in values.items()}
    return {name: {"mean": one.mean, "deviation": one.deviation} for name, one in found.items()}
