"""How a search is made: how many trials, how long, what is common to all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reftune.recipe import TrainingRecipe

ETA = 3  # of the trials of a rung one in three goes on, with three times the epochs
MIN_UPDATES = 8  # a training of fewer updates says nothing about a longer one


@dataclass(frozen=True)
class TuningPlan:
    """How to search.

    Attributes:
        trials: settings to try.
        minutes: no new trials begin after so many minutes; None sets no limit.
        at_once: trials that are asked for, and trained, together.
        rungs: budgets that a trial passes, each three times the one before it; 1 trains every
            trial to its end.
        seeds: trainings with other seeds, of the best setting, the default and the cheapest.
        space: what is said of the space, see `reftune.tuning.space.narrowed`.
        recipe: what is common to all trainings; ``epochs`` are those of the last rung, ``seed`` is
            that of all trials. Its ``lr``, ``warmup`` and ``weight_decay`` have no meaning.
    """

    trials: int = 40
    minutes: float | None = None
    at_once: int = 8
    rungs: int = 3
    seeds: int = 3
    space: Mapping[str, Any] = field(default_factory=dict)
    recipe: TrainingRecipe = field(default_factory=TrainingRecipe)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("at_once", 1), ("rungs", 1), ("seeds", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)}: expected {least} or more")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes {self.minutes}: expected more than 0")

    def budgets(self, updates: int) -> list[float]:
        """Return the epochs of the rungs, the shortest first.

        Args:
            updates: of a training of all epochs.
        """
        parts = [ETA**rung for rung in reversed(range(self.rungs))]
        enough = [part for part in parts if part == 1 or updates >= MIN_UPDATES * part]
        return [self.recipe.epochs / part for part in enough]


def promoted(values: Mapping[int, float], candidates: list[int]) -> list[int]:
    """Return the trials that go on from a rung: those among the best third of all that passed it.

    Trials of earlier batches count (as in asynchronous successive halving, arXiv 1810.05934), so
    that a batch of bad trials ends here, and one of good ones goes on.

    Args:
        values: losses at the rung by trial; those of trials whose loss is no number are not in it.
        candidates: the trials to decide about.
    """
    count = -(-len(values) // ETA)
    best = sorted(values, key=lambda trial: (values[trial], trial))[:count]
    return [trial for trial in candidates if trial in best]
