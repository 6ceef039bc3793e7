"""Scoring a model that is there already, as the run did that trained it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from reftune.experiments.classification import check_rows, score_rows
from reftune.experiments.language_scores import (
    Answering,
    check_questions,
    check_room,
    score_answers,
)
from reftune.experiments.loading import longest_row, room
from reftune.experiments.wanted import (
    Wanted,
    load_wanted_classifier,
    load_wanted_language_model,
)
from reftune.generation import GenerationSettings
from reftune.recipe import TrainingRecipe
from reftune.tasks import ClassificationTask, Task
from reftune.tasks.labels import Labels
from reftune.tasks.sets import RowSet, load_set, load_validation

LONGEST = 512


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
    if "labels" in noted:
        raise _other_task(wanted, noted, task)
    facts = noted if noted.get("task") == task.name else {}
    own = {"max_new_tokens": task.max_new_tokens, **facts.get("generation", {})}
    settings = GenerationSettings(**{**own, **generation})
    longest = facts.get("max_length", LONGEST) if max_length is None else max_length
    recipe = TrainingRecipe(template="plain", batch_size=settings.batch_size, max_length=longest)
    for rows in sets.values():
        check_questions(task, rows)
    base = load_wanted_language_model(wanted)
    check_room(base.model, base.tokenizer, task, sets, settings)
    recipe = replace(recipe, max_length=room(base.model, longest))
    answering = Answering(settings, recipe, wanted.generator(), overwrite, wanted.told())
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
    if facts and ("labels" not in facts or facts["task"] != task.name):
        raise _other_task(wanted, facts, task)
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


def _other_task(
    wanted: Wanted, facts: dict[str, Any], task: Task | ClassificationTask
) -> ValueError:
    return ValueError(
        f'adapter "{wanted.adapter}" was trained for {facts["task"]}; expected {task.name}'
    )


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
