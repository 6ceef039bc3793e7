"""The scores of a language model on the test sets of a task."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.experiments.held_out import reference_loss
from reftune.experiments.loading import virtual_tokens
from reftune.generation import GenerationSettings, Model, check_lengths, encode_prompts
from reftune.output_folder import write_atomically
from reftune.recipe import TrainingRecipe
from reftune.tasks.scoring import alpaca_eval_outputs, score_set
from reftune.tasks.sets import RowSet
from reftune.tasks.task import Task


@dataclass(frozen=True)
class Answering:
    """How a model is asked.

    Attributes:
        settings: of its answers.
        recipe: says how reference answers are cut for their loss, and how many go at a time.
        generator: what the model is called in files for a judge.
        overwrite: answer everything anew.
        told: more of the model than its name and PEFT's adapter, to tell it from others.
    """

    settings: GenerationSettings
    recipe: TrainingRecipe
    generator: str
    overwrite: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


def score_answers(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    tests: Mapping[str, RowSet],
    folder: Path,
    answering: Answering,
) -> dict[str, dict[str, Any]]:
    """Answer the questions of test sets into files, and score them.

    Args:
        model: with or without an adapter of any method.
        tokenizer: of the same model.
        task: whose sets they are.
        tests: the sets by name.
        folder: gets `NAME.jsonl`, and `NAME.alpaca_eval.json` where no program judges.
        answering: how.

    Returns:
        Per test set `metric`, `value`, `total`, `interval` and `leaked`. A set of a task with two
        scores has the second one, its loss, under the name `"SET loss"`.
    """
    scores: dict[str, dict[str, Any]] = {}
    for name, rows in tests.items():
        file, leaked = folder / f"{name}.jsonl", {"leaked": name in task.leaked}
        asked, how = rows.rows, (answering.settings, answering.overwrite, answering.told)
        score = score_set(model, tokenizer, task, asked, file, *how)
        if score is None:
            _write_for_judge(file, asked, answering.generator)
        else:
            scores[name] = {
                "metric": "accuracy",
                "value": score.accuracy,
                "total": score.total,
                "interval": list(score.interval()),
                **leaked,
            }
        loss = reference_loss(model, tokenizer, task, rows, answering.recipe)
        if loss is not None:
            scores[name if score is None else f"{name} loss"] = {**loss, **leaked}
    return scores


def check_questions(task: Task, rows: RowSet) -> None:
    """Hold the rows of a test set against the form of its task, their answers too.

    Raises:
        ValueError: names the file and the first row of another form.
    """
    for number, row in enumerate(rows.rows, start=1):
        where = f"{rows.origin}, row {number}"
        task.question(row, where)
        if task.judge is not None:
            task.judged("", row, where)


def check_room(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    tests: Mapping[str, RowSet],
    settings: GenerationSettings,
) -> None:
    """Check that the positions of a model are enough for questions and answers.

    Args:
        model: with what a method has put on it.
        tokenizer: of the same model.
        task: whose sets they are.
        tests: the sets by name.
        settings: of the answers.

    Raises:
        ValueError: names the file and the first row that does not fit.
    """
    for rows in tests.values():
        asked = Dataset.from_list([task.question(row, rows.origin) for row in rows.rows])
        try:
            prompts = encode_prompts(asked, tokenizer, "plain")
            check_lengths(model.config, prompts, settings, virtual_tokens(model))
        except ValueError as error:
            raise ValueError(f"{rows.origin}, {error}") from None


def _write_for_judge(file: Path, rows: list[dict[str, Any]], generator: str) -> None:
    with file.open(encoding="utf-8") as lines:
        answers = [json.loads(line)["output"] for line in lines]
    outputs = alpaca_eval_outputs(rows, answers, generator)
    text = json.dumps(outputs, indent=2, ensure_ascii=False)
    write_atomically(file.with_suffix(".alpaca_eval.json"), text)
