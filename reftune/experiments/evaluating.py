"""Scoring a model that is there already: one of ours, an adapter of PEFT, or a model as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from transformers import AutoConfig

from reftune.experiments.classification import check_rows, score_rows
from reftune.experiments.loading import (
    Base,
    load_classifier,
    load_language_model,
    longest_row,
)
from reftune.experiments.trained_model import load_trained, read_facts
from reftune.tasks import ClassificationTask
from reftune.tasks.labels import Labels
from reftune.tasks.sets import RowSet, load_set, load_validation

LONGEST = 512


@dataclass(frozen=True)
class Wanted:
    """Which model is to be scored.

    Attributes:
        model: base model; `None` for the adapter's own.
        adapter: a folder of `reftune run`, or a folder or hub id of PEFT; `None` for none.
        dtype: of the base model.
    """

    model: str | None
    adapter: str | None
    dtype: str = "auto"

    def facts(self) -> dict[str, Any] | None:
        """Return what `reftune run` noted of the adapter, if it was written by it."""
        return read_facts(self.adapter) if self.adapter else None

    def base_name(self) -> str:
        """Return the base model.

        Raises:
            ValueError: there is neither a model nor an adapter, or no such adapter.
        """
        if self.model is not None:
            return self.model
        if self.adapter is None:
            raise ValueError("expected --model, --adapter or both")
        facts = self.facts()
        own = facts["model"] if facts else _peft_config(self.adapter).base_model_name_or_path
        if not own:
            raise ValueError(f'adapter "{self.adapter}" does not name its base model; say --model')
        return own


def load_wanted_language_model(wanted: Wanted) -> Base:
    """Load a language model, with what is trained of it.

    Raises:
        ValueError: there is no such model or adapter, or they do not fit.
    """
    return _with_adapter(load_language_model(wanted.base_name(), wanted.dtype), wanted)


def load_wanted_classifier(wanted: Wanted, labels: Labels) -> Base:
    """Load a classifier, with what is trained of it; its head must be trained.

    Raises:
        ValueError: there is no such model or adapter, or they do not fit.
    """
    trained = wanted.adapter is None
    base = load_classifier(wanted.base_name(), wanted.dtype, labels, trained)
    return _with_adapter(base, wanted)


def _with_adapter(base: Base, wanted: Wanted) -> Base:
    if wanted.adapter is None:
        return base
    facts = wanted.facts()
    if facts is not None:
        return replace(base, model=load_trained(base.model, wanted.adapter, facts))
    _peft_config(wanted.adapter)
    try:
        model = PeftModel.from_pretrained(base.model, wanted.adapter).eval()
    except (RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'adapter "{wanted.adapter}" cannot be put on the model ({reason})'
        ) from error
    return replace(base, model=model)


def _peft_config(adapter: str) -> PeftConfig:
    try:
        return PeftConfig.from_pretrained(adapter)
    except (TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{adapter}": expected a folder of PEFT ({reason})') from error


def read_test_sets(
    task: ClassificationTask, data: str | Path, names: Sequence[str] | None, rows: int | None
) -> dict[str, RowSet]:
    """Read the sets that a classifier is scored on; of GLUE the whole validation set.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one cannot be read, or GLUE's was named.
    """
    if not task.halves:
        names = names or task.tests
        return {name: load_set(task, data, name, "test").first(rows) for name in names}
    if names is not None:
        raise ValueError(f"tests {', '.join(names)}: expected none, {task.name} has one set only")
    validation = load_validation(task, data)
    assert validation is not None
    return {task.name: validation.first(rows)}


def score_classifier(
    task: ClassificationTask,
    wanted: Wanted,
    sets: dict[str, RowSet],
    out: Path,
    batch_size: int,
) -> dict[str, dict[str, Any]]:
    """Score a classifier on sets.

    Args:
        task: whose sets they are.
        wanted: the model.
        sets: see `read_test_sets`.
        out: folder for the answers.
        batch_size: rows at a time.

    Returns:
        Per set `metric`, `value`, `total` and `interval`.

    Raises:
        ValueError: the model is not there, or is not for these labels.
    """
    facts = wanted.facts() or {}
    if "labels" in facts and facts["task"] != task.name:
        raise ValueError(
            f'adapter "{wanted.adapter}" was trained for {facts["task"]}; expected {task.name}'
        )
    if "metric" in facts:
        task = replace(task, metric=facts["metric"])
    labels = _labels_of(task, wanted, facts)
    for rows in sets.values():
        check_rows(task, labels, rows)
    base = load_wanted_classifier(wanted, labels)
    longest = longest_row(base, facts.get("max_length", LONGEST))
    out.mkdir(parents=True, exist_ok=True)
    return {
        name: score_rows(task, labels, rows, base, out / f"{name}.jsonl", longest, batch_size)
        for name, rows in sets.items()
    }


def _labels_of(task: ClassificationTask, wanted: Wanted, facts: dict[str, Any]) -> Labels:
    """Return the labels that a model was trained for.

    Raises:
        ValueError: nothing tells them.
    """
    if "labels" in facts:
        return Labels(tuple(facts["labels"]), facts.get("by_index", False))
    if task.halves:
        return task.labels([], (), task.name)
    if wanted.adapter is not None:
        raise ValueError(
            f'adapter "{wanted.adapter}" does not tell its labels; expected a folder written by '
            "reftune run, or a whole model"
        )
    try:
        config: Any = AutoConfig.from_pretrained(wanted.base_name())
    except (OSError, ValueError) as error:
        raise ValueError(f'model "{wanted.base_name()}" cannot be loaded ({error})') from error
    names = tuple(config.id2label[index] for index in range(config.num_labels))
    return Labels(names if len(names) > 1 else (), by_index=True)
