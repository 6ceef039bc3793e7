"""The trials of a search, kept by optuna in a file from which a killed search goes on."""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reftune.tuning.layer_choices import layers_named
from reftune.tuning.setting import Setting
from reftune.tuning.space import LAST, NAMES, Range, Space
from reftune.tuning.workbench import Outcome

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

JOURNAL = "study.journal"
WHERE_FIRST, TRAINING_LAST = "where", "training"
# The library's own default, the paper's setting for reasoning with its rank and half of it, and
# the one layer and one token of the demonstrations.
STARTS = (
    Setting(),
    Setting(r=8, lr=9e-4),
    Setting(lr=9e-4),
    Setting(layers="middle", positions="l1", lr=4e-3),
)


def need_optuna() -> None:
    """Make sure that the extra is installed.

    Raises:
        ImportError: it is not; says how to install it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("the search needs optuna: pip install 'reftune[tune]'")


class Study:
    """The trials of one search.

    A trial is running from when it is asked for until it is told; so a killed search finds the
    trials that it was at, with what they had reached.

    Args:
        out: folder of the search.
        space: what is searched.
        depth: layers of the model.
        seed: of what is proposed.
    """

    def __init__(self, out: Path, space: Space, depth: int, seed: int):
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.depth = space, depth
        _drop_torn_line(out / JOURNAL)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage, study_name="reftune", direction="minimize", load_if_exists=True
        )
        # Another seed for a search that goes on, or it would propose the same once more.
        self._study.sampler = optuna.samplers.TPESampler(seed=seed + len(self._study.trials))
        for start in STARTS:
            values = {name: self._allowed(name, getattr(start, name)) for name in NAMES}
            self._study.enqueue_trial(values, {"phase": WHERE_FIRST}, skip_if_exists=True)

    def running(self) -> "list[Trial]":
        """Return the trials that were asked for and not told yet."""
        from optuna.trial import Trial, TrialState

        frozen = self._study.get_trials(states=(TrialState.RUNNING,))
        trials = [Trial(self._study, one._trial_id) for one in frozen]
        for trial in trials:
            self._suggest(trial)
        return trials

    def ask(self, phase: str) -> "Trial":
        """Ask for a trial, whose setting is `setting_of` it.

        Args:
            phase: `WHERE_FIRST` holds the training at its defaults, but for the learning rate;
                `TRAINING_LAST` holds all else at the best trial's. One of `STARTS` that is left
                comes first.
        """
        from optuna.trial import TrialState

        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(self._held(phase), {"phase": phase})
        trial = self._study.ask()
        self._suggest(trial)
        return trial

    def report(self, trial: "Trial", rung: int, outcome: Outcome) -> None:
        """Note what a trial reached at a rung."""
        trial.set_user_attr(f"rung-{rung}", asdict(outcome))
        trial.report(outcome.loss, rung)

    def tell(self, trial: "Trial", loss: float | None) -> None:
        """End a trial, with its loss after the last rung, or with None if it was stopped."""
        from optuna.trial import TrialState

        if loss is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, loss)

    def begun(self) -> "list[FrozenTrial]":
        """Return all trials that were asked for, by number."""
        from optuna.trial import TrialState

        return [one for one in self._study.trials if one.state != TrialState.WAITING]

    def finished(self) -> "list[FrozenTrial]":
        """Return the trials that were told, by number."""
        return [one for one in self.begun() if one.state.is_finished()]

    def complete(self) -> "list[FrozenTrial]":
        """Return the trials that have a loss after the last rung, the best first."""
        trials = [one for one in self.finished() if is_complete(one)]
        return sorted(trials, key=lambda one: (one.value, one.number))

    def losses(self, rung: int) -> dict[int, float]:
        """Return the losses of all trials at a rung, by number; without those that are none."""
        values = {one.number: one.intermediate_values.get(rung, math.nan) for one in self.begun()}
        return {number: loss for number, loss in values.items() if math.isfinite(loss)}

    def known(self, trial: "Trial", rung: int) -> Outcome | None:
        """Return what another trial with the same setting reached at a rung."""
        setting = trial.user_attrs["setting"]
        for one in self.begun():
            same = one.user_attrs.get("setting") == setting
            if same and one.number != trial.number and rung in one.intermediate_values:
                return Outcome(**{**one.user_attrs[f"rung-{rung}"], "seconds": 0.0})
        return None

    def _suggest(self, trial: "Trial") -> None:
        """Have the sampler decide what a trial is, and note it as a setting."""
        values = {}
        for name in NAMES:
            choices = self.space[name]
            if isinstance(choices, Range):
                values[name] = trial.suggest_float(name, choices.low, choices.high, log=choices.log)
            else:
                values[name] = trial.suggest_categorical(name, choices)
        values["layers"] = layers_named(values["layers"], self.depth)
        trial.set_user_attr("setting", asdict(Setting(**values).sensible()))

    def _held(self, phase: str) -> dict[str, Any]:
        """Return the values that do not vary in a phase."""
        best = self.complete()
        if phase == TRAINING_LAST and best:
            return {name: best[0].params[name] for name in NAMES if name not in (*LAST, "lr")}
        return {name: self._allowed(name, getattr(Setting(), name)) for name in LAST}

    def _allowed(self, name: str, value: Any) -> Any:
        """Return a value, or what the space has in its place."""
        choices = self.space[name]
        if isinstance(choices, Range):
            return min(max(value, choices.low), choices.high)
        if name == "layers":
            same = [c for c in choices if self._layers(c) == self._layers(value)]
            return (same or choices)[0]
        return value if value in choices else choices[0]

    def _layers(self, choice: str) -> str:
        return layers_named(choice, self.depth)


def setting_of(trial: "Trial | FrozenTrial") -> Setting:
    """Return the setting that a trial tries."""
    return Setting(**trial.user_attrs["setting"])


def outcomes_of(trial: "FrozenTrial") -> list[Mapping[str, Any]]:
    """Return what a trial reached at its rungs, the fields of `Outcome`."""
    return [trial.user_attrs[f"rung-{rung}"] for rung in sorted(trial.intermediate_values)]


def is_complete(trial: "FrozenTrial") -> bool:
    """Say whether a trial has a loss after the last rung."""
    return trial.state.name == "COMPLETE"


def _drop_torn_line(journal: Path) -> None:
    """Remove what a killed process did not finish writing; after it the file could not be read."""
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            journal.write_bytes(content[: content.rfind(b"\n") + 1])
