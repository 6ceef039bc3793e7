"""One cell of the table: a method on a task, its learning rate searched, then run over seeds.

Everything lies in `OUT/TASK/METHOD`: `search/RATE` and `final` are folders of
`reftune.experiments`, so an interrupted cell goes on where it stopped.
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
from comparison.settings import (
    BATCH,
    METHODS,
    NONE,
    SEARCH_SEED,
    SEEDS,
    TASKS,
    UNTRAINED,
    Compared,
    Studied,
)
from comparison.untrained import score_untrained
from reftune.experiments.experiment import Experiment
from reftune.experiments.methods import method_of
from reftune.experiments.running import run_experiment

SEARCH, FINAL = "search", "final"


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
                "bf16": True,
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

    def run(
        self, base_models: Path, assets: Path, out: Path, seeds: tuple[int, ...] = SEEDS
    ) -> dict[str, Any]:
        """Search the rate, run the seeds, and return the result of these."""
        studied, folder = self.studied, self.folder(out)
        data = write_sets(studied.task, assets, out / "data", studied.rows)
        if self.is_base:
            trained = Cell(studied, METHODS[studied.model][0])
            untrained = trained.experiment(base_models, trained.compared.rates[0], seeds)
            return score_untrained(untrained, data, folder / FINAL)
        values = {}
        for rate in self.compared.rates:
            tried = self.experiment(base_models, rate, (SEARCH_SEED,))
            if studied.model == "decoder":
                tried = replace(tried, tests=("validation",))
            result = run_experiment(tried, data, folder / SEARCH / f"{rate:g}")
            values[rate] = validation_of(result)
        best = max(values, key=lambda rate: values[rate])
        return run_experiment(self.experiment(base_models, best, seeds), data, folder / FINAL)


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
    """Yield the cells of the table, method after method, so that a part of them is of all tasks."""
    for studied in TASKS:
        if studied.form in OPEN:
            yield Cell(studied, UNTRAINED)
    for encoders, decoders in zip(METHODS["encoder"], METHODS["decoder"], strict=True):
        for studied in TASKS:
            compared = encoders if studied.model == "encoder" else decoders
            if compared.only in ("", studied.model):
                yield Cell(studied, compared)


def slug(name: str) -> str:
    """Return a name as one of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("³", "3")).strip("-")
