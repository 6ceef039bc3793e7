"""The search: ask for a batch of settings, train them together rung by rung, tell, and again."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.attached import layers_of
from reftune.config import ReftConfig
from reftune.encoding import IGNORED
from reftune.micro_batches import updates
from reftune.output_folder import write_atomically
from reftune.recipe import encode_for
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.tuner import resolve
from reftune.tuning.picture import draw_search
from reftune.tuning.plan import TuningPlan, promoted
from reftune.tuning.records import (
    PICTURE,
    RESULT,
    open_search,
    record_of,
    settings_of_search,
    write_best,
    write_trials,
)
from reftune.tuning.repeats import compare
from reftune.tuning.report import TuningResult
from reftune.tuning.space import LAST, narrowed, size
from reftune.tuning.study import TRAINING_LAST, WHERE_FIRST, Study, need_optuna, setting_of
from reftune.tuning.workbench import Training, Workbench

if TYPE_CHECKING:
    from optuna.trial import Trial

FEWEST_ROWS = 4  # held-out ones; the loss of fewer says little of others
PHASE_BORDER = 0.75  # the share of the trials that decide where, before those about the training

Tell = Callable[[str], None]


def tune(
    base_model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    held_out: Dataset,
    out: str | Path,
    plan: TuningPlan | None = None,
    tell: Tell | None = None,
) -> TuningResult:
    """Search for the setting with the lowest held-out loss.

    The folder gets ``trials.jsonl``, ``best.yaml`` and ``best/`` after every batch of trials, and
    in the end ``result.json`` and ``tune.png``. The same call goes on with a search that was
    stopped or killed, and with more trials in the plan, with one that had ended.

    Args:
        base_model: a causal language model without adapters; the same afterwards.
        tokenizer: of the same model.
        rows: to train on, see `reftune.data.load_rows`.
        held_out: to score on.
        out: the folder of the search.
        plan: how to search; the default plan if None.
        tell: called with a line of text after every batch.

    Raises:
        ImportError: optuna is not installed.
        ValueError: the model has adapters, there are too few rows, the space has no meaning for
            this model, all trials diverged, or the folder holds another search.
        OSError: the folder holds something else.
        TrainingInterrupted: a signal came; the same call goes on.
    """
    need_optuna()
    if layers_of(base_model):
        raise ValueError("the model has adapters already: expected a base model without")
    plan = plan or TuningPlan()
    search = _Search(base_model, tokenizer, rows, held_out, Path(out), plan)
    stop = StopAtStepEnd()
    with stop.on_signals():
        search.run(stop, tell or (lambda text: None))
        return search.finish(stop)


class _Search:
    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        held_out: Dataset,
        out: Path,
        plan: TuningPlan,
    ):
        shape = ReftConfig(task_type="CAUSAL_LM")
        resolve(model, shape)
        depth, width = shape.num_layers or 1, shape.hidden_size or 1
        space = narrowed(plan.space, depth, width)
        encoded, _ = encode_for(model, tokenizer, rows, plan.recipe)
        scored, _ = encode_for(model, tokenizer, held_out, plan.recipe)
        _check_held_out(scored)
        open_search(out, settings_of_search(model, encoded, scored, space, plan))
        self.out, self.plan = out, plan
        self.total = int(min(plan.trials, size(space)))
        self.phased = size(space, LAST) > 1
        self.budgets = plan.budgets(updates(len(encoded), plan.recipe))
        self.bench = Workbench(model, tokenizer, encoded, scored, plan.recipe)
        self.study = Study(out, space, depth, plan.recipe.seed)
        self._begin = time.monotonic()

    def run(self, stop: StopAtStepEnd, tell: Tell) -> None:
        """Try settings until there are enough, or the time is over."""
        self._write()  # what a killed process had not written yet
        batch = self.study.running()
        while batch or (batch := self._ask()):
            try:
                self._try(batch, stop)
            except TrainingInterrupted:
                raise self._interrupted() from None
            finally:
                self._write()
            tell(self._state())
            batch = []

    def finish(self, stop: StopAtStepEnd) -> TuningResult:
        """Measure the noise, compare with the default, draw the picture."""
        complete = self.study.complete()
        if not complete:
            raise ValueError(
                f"none of {len(self.study.finished())} trials ended with a loss that is a number; "
                "expected a space with lower learning rates"
            )
        try:
            counts, stopped = self._counts(), lambda: stop.asked
            result = compare(self.bench, complete, self.plan, self.out, counts, stopped)
        except TrainingInterrupted:
            raise self._interrupted() from None
        write_atomically(self.out / RESULT, result.as_json() + "\n")
        draw_search(self._records(), result, self.out / PICTURE)
        return result

    def _ask(self) -> "list[Trial]":
        """Ask for the next batch; it is empty when the search is over."""
        begun, minutes = len(self.study.begun()), (time.monotonic() - self._begin) / 60
        spent = minutes / self.plan.minutes if self.plan.minutes else 0.0
        if spent >= 1 and self.study.complete():
            return []
        numbers = range(begun, min(begun + self.plan.at_once, self.total))
        return [self.study.ask(self._phase(number, spent)) for number in numbers]

    def _phase(self, number: int, spent: float) -> str:
        """Say what a trial is to decide."""
        late = number >= PHASE_BORDER * self.total or spent >= PHASE_BORDER
        return TRAINING_LAST if self.phased and late and self.study.complete() else WHERE_FIRST

    def _try(self, trials: "list[Trial]", stop: StopAtStepEnd) -> None:
        """Take a batch from rung to rung."""
        last = len(self.budgets) - 1
        for rung in range(last + 1):
            self._train(trials, rung)
            losses = self.study.losses(rung)
            numbers = [trial.number for trial in trials if trial.number in losses]
            going = numbers if rung == last else promoted(losses, numbers)
            for trial in trials:
                if trial.number not in going:
                    self.study.tell(trial, None)
                elif rung == last:
                    self.study.tell(trial, losses[trial.number])
            trials = [trial for trial in trials if trial.number in going]
            if stop.asked:
                raise TrainingInterrupted

    def _train(self, trials: "list[Trial]", rung: int) -> None:
        """Train trials for a rung's epochs, those that have not been there."""
        there = {one.number for one in self.study.begun() if rung in one.intermediate_values}
        todo = []
        for trial in trials:
            known = self.study.known(trial, rung)
            if trial.number in there:
                continue
            # A known setting's last rung is trained again: the best trial needs its adapter.
            if known is not None and rung < len(self.budgets) - 1:
                self.study.report(trial, rung, known)
            else:
                todo.append(trial)
        trainings = [
            Training(
                setting_of(trial),
                self.budgets[rung],
                self.plan.recipe.seed,
                self._folder(trial.number) / f"rung-{rung}",
            )
            for trial in todo
        ]
        for trial, outcome in zip(todo, self.bench.run(trainings), strict=True):
            self.study.report(trial, rung, outcome)

    def _write(self) -> None:
        """Write what is known so far, and remove adapters that nobody needs."""
        finished, complete = self.study.finished(), self.study.complete()
        write_trials(self.out, finished, self.budgets)
        if complete:
            best = complete[0].number
            adapter = self._folder(best) / f"rung-{len(self.budgets) - 1}"
            write_best(self.out, complete[0], self.plan.recipe, adapter)
            for trial in finished:
                if trial.number != best:
                    shutil.rmtree(self._folder(trial.number), ignore_errors=True)

    def _folder(self, trial: int) -> Path:
        return self.out / "trials" / f"{trial:04d}"

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(trial, self.budgets) for trial in self.study.finished()]

    def _counts(self) -> dict[str, int]:
        return dict(Counter(record["state"] for record in self._records()))

    def _state(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self._counts().items())
        best = self.study.complete()[:1]
        found = f"; best held-out loss {best[0].value:.4g}, trial {best[0].number}" if best else ""
        return f"{len(self.study.finished())} of {self.total} trials ({counts}){found}"

    def _interrupted(self) -> TrainingInterrupted:
        done = len(self.study.finished())
        return TrainingInterrupted(f"{done} of {self.total} trials have ended")


def _check_held_out(rows: Dataset) -> None:
    labelled = sum(any(label != IGNORED for label in row["labels"][1:]) for row in rows.to_list())
    if labelled < FEWEST_ROWS:
        raise ValueError(
            f"{labelled} held-out rows: expected at least {FEWEST_ROWS}, and better 50 or more"
        )
