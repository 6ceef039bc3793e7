"""Trainings with other seeds, which tell what is better from what was lucky."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reftune.stopping import TrainingInterrupted
from reftune.tuning.plan import TuningPlan
from reftune.tuning.report import Contender, TuningResult, margin, pooled
from reftune.tuning.setting import Setting
from reftune.tuning.study import outcomes_of, setting_of
from reftune.tuning.workbench import Training, Workbench

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_TRIED = 3  # cheap trials that are trained again in the hope that one is as good as the best


def compare(
    bench: Workbench,
    complete: "Sequence[FrozenTrial]",
    plan: TuningPlan,
    out: Path,
    trials: dict[str, int],
    stopped: Callable[[], bool] = lambda: False,
) -> TuningResult:
    """Train the best trial, the default and a cheap trial again, with seeds that no trial had.

    Args:
        bench: trains.
        complete: the trials with a loss after the last rung, the best first; at least one.
        plan: says how many seeds.
        out: the folder of the search.
        trials: how many there were, by state.
        stopped: whether a signal has come.

    Raises:
        TrainingInterrupted: a signal came; what was trained is kept.
    """
    repeat = _Repeats(bench, plan, out / "repeats", stopped)
    best, default = repeat([(setting_of(complete[0]), complete[0].number), (Setting(), None)])
    noise = pooled([best, default])
    return TuningResult(
        out=out,
        trials=trials,
        best_loss=complete[0].value or 0.0,
        base_loss=bench.loss(None),
        noise=noise,
        best=best,
        default=default,
        cheapest=_cheapest(repeat, complete, best, noise),
    )


def _cheapest(
    repeat: "_Repeats", complete: "Sequence[FrozenTrial]", best: Contender, noise: float
) -> Contender:
    """Return the trial of the fewest parameters that is as good as the best, if there is one."""
    reach = best.mean + margin(noise, len(best.losses), 1)
    cheap = [
        trial
        for trial in complete
        if _parameters(trial) < best.parameters and (trial.value or math.inf) <= reach
    ]
    for trial in sorted(cheap, key=_parameters)[:MOST_TRIED]:
        [one] = repeat([(setting_of(trial), trial.number)])
        if one.mean <= best.mean + margin(noise, len(best.losses)):
            return one
    return best


def _parameters(trial: "FrozenTrial") -> int:
    return int(outcomes_of(trial)[-1]["parameters"])


class _Repeats:
    """Trains settings for all epochs, once per seed."""

    def __init__(self, bench: Workbench, plan: TuningPlan, out: Path, stopped: Callable[[], bool]):
        self._bench, self._plan, self._out, self._stopped = bench, plan, out, stopped

    def __call__(self, settings: Sequence[tuple[Setting, int | None]]) -> list[Contender]:
        if self._stopped():
            raise TrainingInterrupted
        seeds = [self._plan.recipe.seed + number for number in range(1, self._plan.seeds + 1)]
        trainings = [
            Training(setting, self._plan.recipe.epochs, seed, self._folder(trial, seed))
            for setting, trial in settings
            for seed in seeds
        ]
        outcomes = iter(self._bench.run(trainings))
        contenders = []
        for setting, trial in settings:
            of_seeds = [next(outcomes) for _ in seeds]
            losses = tuple(one.loss for one in of_seeds)
            contenders.append(Contender(setting, trial, of_seeds[0].parameters, losses))
        return contenders

    def _folder(self, trial: int | None, seed: int) -> Path:
        name = "default" if trial is None else f"trial-{trial:04d}"
        return self._out / name / f"seed-{seed}"
