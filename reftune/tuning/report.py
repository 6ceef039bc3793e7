"""What came of a search: the best setting, how large the noise is, and what is as good for less."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reftune.tuning.setting import Setting

SURE = 2.0  # standard deviations of a difference that noise alone seldom makes


@dataclass(frozen=True)
class Contender:
    """A setting that was trained again with other seeds.

    Attributes:
        setting: what was trained.
        trial: the trial that tried it; None for the default.
        parameters: trained numbers.
        losses: held-out losses, one per seed.
    """

    setting: Setting
    trial: int | None
    parameters: int
    losses: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.mean(self.losses)

    @property
    def deviation(self) -> float:
        """The standard deviation over seeds, of one training."""
        return statistics.stdev(self.losses) if all(map(math.isfinite, self.losses)) else math.nan


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Attributes:
        out: its folder.
        trials: how many there were, by state.
        best_loss: held-out loss of the best trial, the lowest of all and so too good.
        base_loss: of the base model without an adapter.
        noise: standard deviation of one training over seeds, of best and default together.
        best: the best trial's setting over seeds.
        default: that of the library.
        cheapest: the complete trial of the fewest parameters that noise cannot tell from the best.
    """

    out: Path
    trials: dict[str, int]
    best_loss: float
    base_loss: float
    noise: float
    best: Contender
    default: Contender
    cheapest: Contender

    @property
    def better(self) -> bool:
        """Whether the best is below the default by more than noise makes."""
        return self.default.mean - self.best.mean > margin(self.noise, len(self.best.losses))

    def as_json(self) -> str:
        """Write all of it, with null for what is no number."""
        return json.dumps(_numbers({**asdict(self), "out": str(self.out), "better": self.better}))


def pooled(contenders: Sequence[Contender]) -> float:
    """Return the standard deviation of one training, from several settings over seeds."""
    return math.sqrt(statistics.mean(one.deviation**2 for one in contenders))


def margin(noise: float, seeds: int, others: int | None = None) -> float:
    """Return how far two means may lie apart by noise.

    Args:
        noise: standard deviation of one training.
        seeds: trainings of the first mean.
        others: of the second, as many if None.
    """
    return SURE * noise * math.sqrt(1 / seeds + 1 / (others or seeds))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
