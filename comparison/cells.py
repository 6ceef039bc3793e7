"""One cell of the table: a method on a task, its learning rate searched, then run over seeds.

Its trainings lie in `OUT/TASK/METHOD`: `search/RATE` and `final` are folders of
`reftune.experiments`, so an interrupted cell goes on where it stopped. What came of it is
`RECORDS/TASK/METHOD.json`; a cell that has one is not run again.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from comparison.data import write_sets
from comparison.open_tasks import OPEN, register
from comparison.records import is_of, read_record, write_record
from comparison.settings import (
    BATCH,
    FIRST,
    METHODS,
    NONE,
    SEARCH_SEED,
    SEEDS,
    TASKS,
    UNTRAINED,
    Compared,
    Studied,
)
from comparison.untrained import score_untrained, untrained_settings
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import read_inputs, settings_of
from reftune.experiments.methods import method_of
from reftune.experiments.running import run_experiment

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
    def is_base(self) -> bool:
        """Whether nothing is trained."""
        return self.compared.method == NONE

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
                "batch_size": BATCH,
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
        if self.is_base:
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
        """Search the rate, run the seeds, record the result of these and return it."""
        file, data = self.file(places.records), self.sets(places)
        known = read_record(file)
        if known is not None and self._is_current(known, places, data, seeds):
            return known
        folder, values = self.folder(places.out), self._search(places, data)
        model = places.base_models / self.studied.model
        if self.is_base:
            result = score_untrained(self._trained(places, seeds), data, folder / FINAL)
        else:
            best = max(values, key=lambda rate: values[rate])
            experiment = self.experiment(places.base_models, best, seeds)
            result = run_experiment(experiment, data, folder / FINAL)
        search = {f"{rate:g}": value for rate, value in values.items()}
        write_record(file, result, model, search)
        return read_record(file) or {}

    def sets(self, places: Places) -> Path:
        """Return the folder of the task's sets, which are written if they are not there."""
        studied = self.studied
        return write_sets(studied.task, places.assets, places.out / "data", studied.rows)

    def _search(self, places: Places, data: Path) -> dict[float, float]:
        values = {}
        for rate in self.compared.rates:
            tried = self.experiment(places.base_models, rate, (SEARCH_SEED,))
            if self.studied.model == "decoder":
                tried = replace(tried, tests=("validation",))
            result = run_experiment(tried, data, self.folder(places.out) / SEARCH / f"{rate:g}")
            values[rate] = validation_of(result)
        return values

    def _trained(self, places: Places, seeds: tuple[int, ...]) -> Experiment:
        """Return an experiment of the task that trains something."""
        cell = Cell(self.studied, METHODS[self.studied.model][0])
        return cell.experiment(places.base_models, cell.compared.rates[0], seeds)

    def _is_current(
        self, known: dict[str, Any], places: Places, data: Path, seeds: tuple[int, ...]
    ) -> bool:
        """Whether a record is of today's settings, with the learning rate that it chose."""
        if self.is_base:
            return is_of(known, untrained_settings(self._trained(places, seeds), data))
        rate = known["experiment"]["training"]["lr"]
        experiment = self.experiment(places.base_models, rate, seeds)
        settings = settings_of(experiment, read_inputs(experiment, data), None, None)
        tried = {f"{rate:g}" for rate in self.compared.rates}
        return set(known["search"]) == tried and is_of(known, settings)


def validation_of(result: dict[str, Any]) -> float:
    """Return what the search goes by, more is better.

    It is the best epoch's value, or that of the validation set; where this has a loss, the loss
    with its sign turned round, and one that is no number is worse than all.
    """
    seed = result["seeds"][0]
    if "validation" in seed:
        return seed["validation"]
    losses = [one["value"] for one in seed["scores"].values() if one["metric"] == "loss"]
    if not losses:
        return seed["scores"]["validation"]["value"]
    return -losses[0] if math.isfinite(losses[0]) else -math.inf


def cells() -> Iterator[Cell]:
    """Yield the cells of the table: the first tasks whole, then the others method after method.

    So a part of them is of all methods on some tasks, and of some methods on all tasks.
    """
    for tasks in (
        [one for one in TASKS if one.name in FIRST],
        [one for one in TASKS if one.name not in FIRST],
    ):
        yield from (Cell(studied, UNTRAINED) for studied in tasks if studied.form in OPEN)
        for encoders, decoders in zip(METHODS["encoder"], METHODS["decoder"], strict=True):
            for studied in tasks:
                compared = encoders if studied.model == "encoder" else decoders
                if compared.only in ("", studied.model):
                    yield Cell(studied, compared)


def slug(name: str) -> str:
    """Return a name as one of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("³", "3")).strip("-")
