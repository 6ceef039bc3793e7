"""Scoring a model that is there already: one of ours, an adapter of PEFT, or a model as it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils import load_peft_weights
from safetensors import SafetensorError
from transformers import AutoConfig

from reftune.experiments.classification import check_rows, score_rows
from reftune.experiments.language_scores import (
    Answering,
    check_questions,
    check_room,
    score_answers,
)
from reftune.experiments.loading import (
    Base,
    load_classifier,
    load_language_model,
    longest_row,
    virtual_tokens,
)
from reftune.experiments.model_files import files_digest
from reftune.experiments.trained_model import load_trained, read_facts
from reftune.generation import GenerationSettings
from reftune.recipe import TrainingRecipe
from reftune.tasks import ClassificationTask, Task
from reftune.tasks.labels import Labels
from reftune.tasks.sets import RowSet, load_set, load_validation

LONGEST = 512


@dataclass(frozen=True)
class Wanted:
    """Which model is to be scored.

    Attributes:
        model: base model; `None` for the adapter's own.
        adapter: a folder of `reftune run`, or a folder or hub id of PEFT; `None` for none.
        dtype: of the base model; `None` for that with which the adapter was trained, where
            `reftune run` noted it, and else that of the model's files.
    """

    model: str | None
    adapter: str | None
    dtype: str | None = None

    def facts(self) -> dict[str, Any] | None:
        """Return what `reftune run` noted of the adapter, if it was written by it."""
        return read_facts(self.adapter) if self.adapter else None

    def its_dtype(self) -> str:
        """Return the dtype that the base model is loaded in."""
        return self.dtype or (self.facts() or {}).get("dtype", "auto")

    def told(self) -> dict[str, Any]:
        """Return what tells the model from others that share its base and its kind."""
        trained = "none"
        if self.adapter is not None and self.facts() is not None:
            trained = files_digest(Path(self.adapter), ("*.safetensors",))
        return {"dtype": self.its_dtype(), "trained": trained}

    def generator(self) -> str:
        """Return what to call the model in files for a judge, as `reftune run` does."""
        name, facts = Path(self.base_name()).name, self.facts()
        if self.adapter is None:
            return name
        return f"{name}-{facts['method'] if facts else Path(self.adapter).name}"

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
    return _with_adapter(load_language_model(wanted.base_name(), wanted.its_dtype()), wanted)


def load_wanted_classifier(wanted: Wanted, labels: Labels) -> Base:
    """Load a classifier, with what is trained of it; its head must be trained.

    Raises:
        ValueError: there is no such model or adapter, or they do not fit.
    """
    trained = wanted.adapter is None
    base = load_classifier(wanted.base_name(), wanted.its_dtype(), labels, trained)
    return _with_adapter(base, wanted)


def _with_adapter(base: Base, wanted: Wanted) -> Base:
    if wanted.adapter is None:
        return base
    facts = wanted.facts()
    if facts is not None:
        return replace(base, model=load_trained(base.model, wanted.adapter, facts))
    _peft_config(wanted.adapter)
    _check_head(base.drawn, wanted.adapter)
    try:
        model = PeftModel.from_pretrained(base.model, wanted.adapter).eval()
    except (RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'adapter "{wanted.adapter}" cannot be put on the model ({reason})'
        ) from error
    return replace(base, model=model)


def _check_head(drawn: Collection[str], adapter: str) -> None:
    """Check that an adapter has the parameters of a head that the base model lacks.

    Raises:
        ValueError: it has not; the scores would be those of a head that was never trained.
    """
    if not drawn:
        return
    try:
        stored = load_peft_weights(adapter, device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{adapter}" cannot be read ({reason})') from error
    lacking = [name for name in sorted(drawn) if not any(one.endswith(name) for one in stored)]
    if lacking:
        raise ValueError(
            f'adapter "{adapter}" has no {", ".join(lacking):.100}, and neither has the model; '
            "expected an adapter of task type SEQ_CLS, with a trained head"
        )


def _peft_config(adapter: str) -> PeftConfig:
    try:
        return PeftConfig.from_pretrained(adapter)
    except (TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{adapter}": expected a folder of PEFT ({reason})') from error


def score_language_model(
    task: Task,
    wanted: Wanted,
    sets: dict[str, RowSet],
    out: Path,
    generation: dict[str, Any],
    max_length: int | None = None,
    overwrite: bool = False,
) -> dict[str, dict[str, Any]]:
    """Score a language model on sets, as the run did that trained its adapter for this task.

    Args:
        task: whose sets they are.
        wanted: the model.
        sets: the test sets by name.
        out: folder for the answers.
        generation: fields of `GenerationSettings` that take the place of the run's, or of the
            task's where no run tells any.
        max_length: that reference answers are cut to, with their prompts; `None` for the run's.
        overwrite: answer everything anew.

    Returns:
        Per set, see `reftune.experiments.language_scores.score_answers`.

    Raises:
        ValueError: the model is not there, or a setting has no meaning.
    """
    noted = wanted.facts() or {}
    facts = noted if noted.get("task") == task.name else {}
    own = {"max_new_tokens": task.max_new_tokens, **facts.get("generation", {})}
    settings = GenerationSettings(**{**own, **generation})
    longest = facts.get("max_length", LONGEST) if max_length is None else max_length
    recipe = TrainingRecipe(template="plain", batch_size=settings.batch_size, max_length=longest)
    answering = Answering(settings, recipe, wanted.generator(), overwrite, wanted.told())
    for rows in sets.values():
        check_questions(task, rows)
    base = load_wanted_language_model(wanted)
    check_room(base.model, base.tokenizer, task, sets, settings)
    out.mkdir(parents=True, exist_ok=True)
    return score_answers(base.model, base.tokenizer, task, sets, out, answering)


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
    longest = longest_row(base, facts.get("max_length", LONGEST), virtual_tokens(base.model))
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
    # Where classes are called by numbers, a number in the data is a name.
    numbered = any(name.isdecimal() for name in map(str, names))
    return Labels(names if len(names) > 1 else (), by_index=not numbered)
