"""Which settings mattered, among trials that were trained for the same epochs."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from reftune.tuning.space import LAST, NAMES

FEWEST_TRIALS = 8
PHASES = {
    "where": tuple(name for name in NAMES if name not in LAST),
    "training": ("lr", *LAST),
}


def importances(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the share of each setting in what makes a trial one of the best quarter, by phase.

    It is taken at the first rung, which all trials have, by PED-ANOVA (arXiv 2304.10255); the
    shares of a phase sum to 1. The phases are apart, because trials of the second have the best
    places anyway. A phase of too few trials, or in which nothing varied, is left out.

    Args:
        records: the lines of ``trials.jsonl``.
    """
    found = {}
    for phase, names in PHASES.items():
        trials = [r for r in records if r["phase"] == phase and r["rung_losses"][0] is not None]
        varied = [name for name in names if len({trial[name] for trial in trials}) > 1]
        if len(trials) >= FEWEST_TRIALS and varied:
            found[phase] = _importances(trials, varied)
    return found


def _importances(trials: Sequence[Mapping[str, Any]], names: list[str]) -> dict[str, float]:
    import optuna

    kinds: dict[str, Any] = {}
    for name in names:
        values = sorted({trial[name] for trial in trials})
        if name == "lr":
            kinds[name] = optuna.distributions.FloatDistribution(values[0], values[-1], log=True)
        else:
            kinds[name] = optuna.distributions.CategoricalDistribution(values)
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params={name: trial[name] for name in names},
            distributions=kinds,
            value=trial["rung_losses"][0],
        )
        for trial in trials
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what it makes of few trials
        return dict(
            optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25),
                params=names,
            )
        )
