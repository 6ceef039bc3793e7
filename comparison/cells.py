"""One cell of the table: a method on a task, its learning rate searched, then run over seeds.

Its trainings lie in `OUT/TASK/METHOD`: `search/RATE` and `final` are folders of
`reftune.experiments`, so an interrupted cell goes on where it stopped. What came of it is
`RECORDS/TASK/METHOD.json`; a cell that has one is not run again.
"""

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from comparison.data import write_sets
from comparison.open_tasks import OPEN, register
from comparison.rates import best_rate, is_whole, rate_between
from comparison.records import is_of, read_record, write_record
from comparison.settings import (
    CONSTANT,
    FIRST,
    METHODS,
    NONE,
    ONE_ANSWER,
    SEARCH_SEED,
    SEEDS,
    TASKS,
    UNTRAINED,
    Compared,
    Studied,
)
from comparison.untrained import score_one_answer, score_untrained, untrained_settings
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import SETTINGS as EXPERIMENT
from reftune.experiments.inputs import read_inputs, settings_of
from reftune.experiments.methods import method_of
from reftune.experiments.model_files import version_of
from reftune.experiments.running import run_experiment
from reftune.tasks import Task

SEARCH, FINAL = "search", "final"


@dataclass(frozen=True)
class Places:
    """Where everything is.

    Attributes:
        base_models: folder of the base models.
        assets: of the real sets.
        out: of trainings; it may be removed at any time.
        records: of what came of them, which are kept.
    """

    base_models: Path
    assets: Path
    out: Path
    records: Path


@dataclass(frozen=True)
class Cell:
    """A task and a method."""

    studied: Studied
    compared: Compared

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train."""
        return self.compared.method not in (NONE, CONSTANT)

    def folder(self, out: Path) -> Path:
        return out / slug(self.studied.name) / slug(self.compared.name)

    def file(self, records: Path) -> Path:
        return records / slug(self.studied.name) / f"{slug(self.compared.name)}.json"

    def experiment(self, base_models: Path, rate: float, seeds: tuple[int, ...]) -> Experiment:
        """Return what is run with a learning rate, scored on the test set."""
        register()
        studied, compared = self.studied, self.compared
        language = studied.model == "decoder"
        answering = {**studied.answering, "batch_size": 64} if language else {}
        return Experiment(
            task=studied.form,
            model=str(base_models / studied.model),
            method=compared.method,
            adapter=compared.options,
            training={
                "epochs": studied.epochs,
                "lr": rate,
                "batch_size": studied.batch,
                "max_length": studied.length,
                "group_by_length": True,
                "save_steps": 0,
            },
            generation=answering,
            seeds=seeds,
            dtype="float32",
            train="train" if language else "",
            tests=("test",) if language else (),
        )

    def why_not(self, base_models: Path) -> str | None:
        """Return why the method does not fit the model, if so."""
        if not self.is_trained:
            return None
        language = self.studied.model == "decoder"
        kind = AutoModelForCausalLM if language else AutoModelForSequenceClassification
        model = kind.from_config(AutoConfig.from_pretrained(base_models / self.studied.model))
        method = method_of(self.compared.method, self.compared.options)
        try:
            method.attach(model, "CAUSAL_LM" if language else "SEQ_CLS")
        except ValueError as error:
            return " ".join(str(error).split())
        return None

    def run(self, places: Places, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
        """Search the rate, run the seeds, record the result of these and return it.

        One process at a time does this for a cell, as ablations may ask for the same one.
        """
        lock = self.folder(places.out).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            return self._run(places, seeds)

    def _run(self, places: Places, seeds: tuple[int, ...]) -> dict[str, Any]:
        file, data = self.file(places.records), self.sets(places)
        known = read_record(file)
        if known is not None and self._is_current(known, places, data, seeds):
            return known
        folder, values = self.folder(places.out), self._search(places, data)
        model = places.base_models / self.studied.model
        if self.compared.method == NONE:
            result = score_untrained(self._trained(places, seeds), data, folder / FINAL)
        elif self.compared.method == CONSTANT:
            result = score_one_answer(self._trained(places, seeds), data)
        else:
            experiment = self.experiment(places.base_models, best_rate(values), seeds)
            result = run_or_go_on(experiment, data, folder / FINAL)
        search = {f"{rate:g}": value for rate, value in values.items()}
        write_record(file, result, model, search)
        return read_record(file) or {}

    def sets(self, places: Places) -> Path:
        """Return the folder of the task's sets, which are written if they are not there."""
        studied, out = self.studied, places.out / "data"
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / f"{studied.task}.lock"):  # the other process may need them, too
            return write_sets(studied.task, places.assets, out, studied.rows)

    def _search(self, places: Places, data: Path) -> dict[float, float]:
        values = {rate: self._try(rate, places, data) for rate in self.compared.rates}
        if values:
            between = rate_between(values)
            values[between] = self._try(between, places, data)
        return values

    def _try(self, rate: float, places: Places, data: Path) -> float:
        """Train with a learning rate, and return how good it is by validation.

        What nobody looks at is kept short: the test set of classes, which have that score from
        choosing the best epoch, and the answers where the search goes by the loss.
        """
        tried, test_rows = self.experiment(places.base_models, rate, (SEARCH_SEED,)), None
        if not isinstance(tried.its_task, Task):
            test_rows = 1
        else:
            tried = replace(tried, tests=("validation",))
            if tried.its_task.loss:
                tried = replace(tried, generation={**tried.generation, "max_new_tokens": 1})
        folder = self.folder(places.out) / SEARCH / f"{rate:g}"
        return validation_of(run_or_go_on(tried, data, folder, test_rows))

    def _trained(self, places: Places, seeds: tuple[int, ...]) -> Experiment:
        """Return an experiment of the task that trains something."""
        cell = Cell(self.studied, METHODS[self.studied.model][0])
        return cell.experiment(places.base_models, cell.compared.rates[0], seeds)

    def _is_current(
        self, known: dict[str, Any], places: Places, data: Path, seeds: tuple[int, ...]
    ) -> bool:
        """Whether a record is of today's settings, with the learning rate that it chose."""
        if not self.is_trained:
            trained, method = self._trained(places, seeds), self.compared.method
            return is_of(known, untrained_settings(trained, data, method))
        rate = known["experiment"]["training"]["lr"]
        experiment = self.experiment(places.base_models, rate, seeds)
        settings = settings_of(experiment, read_inputs(experiment, data), None, None)
        return is_whole(known["search"], self.compared.rates, rate) and is_of(known, settings)


def run_or_go_on(
    experiment: Experiment, data: Path, out: Path, test_rows: int | None = None
) -> dict[str, Any]:
    """Run an experiment; what lies in its folder is gone on with, or removed if it is another."""
    inputs = read_inputs(experiment, data, None, test_rows)
    settings = settings_of(experiment, inputs, None, test_rows)
    settings["model"] = version_of(experiment.model)
    told = out / EXPERIMENT
    if told.exists() and json.loads(told.read_text(encoding="utf-8")) != settings:
        shutil.rmtree(out)
    return run_experiment(experiment, data, out, test_rows=test_rows)


def validation_of(result: dict[str, Any]) -> float:
    """Return what the search goes by, more is better; what is no number is worse than all.

    It is the best epoch's value, or that of the validation set; where this has a loss, the loss
    with its sign turned round.
    """
    seed = result["seeds"][0]
    losses = [one["value"] for one in seed["scores"].values() if one["metric"] == "loss"]
    if seed.get("validation") is not None:
        value = seed["validation"]
    else:
        value = -losses[0] if losses else seed["scores"]["validation"]["value"]
    return value if math.isfinite(value) else -math.inf


def cells() -> Iterator[Cell]:
    """Yield the cells of the table: the first tasks whole, then the others method after method.

    So a part of them is of all methods on some tasks, and of some methods on all tasks.
    """
    for tasks in (
        [one for one in TASKS if one.name in FIRST],
        [one for one in TASKS if one.name not in FIRST],
    ):
        for studied in tasks:
            yield Cell(studied, UNTRAINED if studied.form in OPEN else ONE_ANSWER)
        for encoders, decoders in zip(METHODS["encoder"], METHODS["decoder"], strict=True):
            for studied in tasks:
                compared = encoders if studied.model == "encoder" else decoders
                if compared.only in ("", studied.model):
                    yield Cell(studied, compared)


def slug(name: str) -> str:
    """Return a name as one of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("³", "3")).strip("-")
