"""Asking a model the questions of a test set, and scoring what it says."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.answers_file import generate_file, lines_there
from reftune.generation import GenerationSettings, Model
from reftune.output_folder import write_atomically
from reftune.tasks.task import Score, Task


def score_set(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[dict[str, Any]],
    out: str | Path,
    settings: GenerationSettings | None = None,
    overwrite: bool = False,
    told: Mapping[str, Any] | None = None,
) -> Score | None:
    """Answer the questions of a test set into a file, and score the answers.

    A run that stopped half-way goes on where it stopped, and answers that are all there are scored
    if the same model gave them. Beside the file of answers, the scored
    ones are written to `NAME.scored.jsonl`: what was read from each, and whether it is right.

    Args:
        model: with or without an adapter of any method.
        rows: of the test set, see `reftune.tasks.folder.read_set`.
        out: the file of answers, JSONL.
        settings: how to answer; greedily, at the task's length by default.
        overwrite: answer everything anew.
        told: see `reftune.answers_file.generate_file`.

    Returns:
        The score, or `None` if the task has no judge.

    Raises:
        ValueError: a row has not the form of the task, or the file was begun with another model.
    """
    out = Path(out)
    settings = settings or GenerationSettings(max_new_tokens=task.max_new_tokens)
    settings = replace(settings, template="plain")
    asked = Dataset.from_list([task.question(row, f"row {i}") for i, row in enumerate(rows, 1)])
    with suppress(FileExistsError):  # all answers of this model are there
        generate_file(model, tokenizer, asked, out, settings, overwrite, told)
    if task.judge is None:
        return None
    answers = [json.loads(line)["output"] for line in lines_there(out, asked)]
    judged = [
        task.judged(answer, row, f"row {i}")
        for i, (answer, row) in enumerate(zip(answers, rows, strict=True), 1)
    ]
    lines = [
        {"output": answer, "found": one.found, "answer": row.get("answer"), "right": one.right}
        for answer, one, row in zip(answers, judged, rows, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(out.with_suffix(".scored.jsonl"), text)
    return Score(sum(one.right for one in judged), len(judged))


def alpaca_eval_outputs(
    rows: Sequence[dict[str, Any]], answers: Sequence[str], generator: str
) -> list[dict[str, str]]:
    """Return answers in the form that `alpaca_eval --model_outputs` reads.

    Blanks before an answer are left out, as in the paper's code.

    https://github.com/tatsu-lab/alpaca_eval#evaluating-a-model
    """
    return [
        {
            "dataset": row.get("dataset", "alpaca_eval"),
            "instruction": row["instruction"],
            "output": answer.lstrip(),
            "generator": generator,
        }
        for row, answer in zip(rows, answers, strict=True)
    ]
