"""The loss of rows that are not trained on, and which rows of a task have one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.collation import PaddingCollator
from reftune.encoding import IGNORED
from reftune.recipe import TrainingRecipe, encode_for
from reftune.tasks.sets import RowSet
from reftune.tasks.task import Task


@dataclass(frozen=True)
class HeldOutLoss:
    """The mean loss of held-out rows.

    Attributes:
        value: in nats per labelled token; it may be no number.
        tokens: how many are labelled.
    """

    value: float
    tokens: int


@torch.no_grad()
def held_out_loss(
    model: Any,
    collate: Callable[[list[dict[str, Any]]], Mapping[str, torch.Tensor]],
    rows: Dataset,
    batch_size: int,
) -> HeldOutLoss:
    """Return the loss over all labelled tokens of rows, each token counted once.

    Args:
        model: a causal language model, with or without an adapter; its mode is kept.
        collate: pads rows to a batch with ``labels``, ``(batch, seq)``.
        rows: encoded, with ``input_ids`` and ``labels``; at least one label after the first place.
        batch_size: rows at a time.
    """
    was_training = model.training
    model.eval()
    # Rows of like length together: less is padded.
    ordered = sorted(rows.to_list(), key=lambda row: len(row["input_ids"]))
    total, tokens = 0.0, 0
    for first in range(0, len(ordered), batch_size):
        batch = collate(ordered[first : first + batch_size])
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        total += float(model(**inputs, use_cache=False).loss) * count
        tokens += count
    model.train(was_training)
    return HeldOutLoss(total / tokens if math.isfinite(total) else math.nan, tokens)


def references(task: Task, rows: Sequence[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Return the rows of a test set with their reference answers, if a loss of them is a score.

    There is none where a row lacks its reference.

    Args:
        task: whose rows they are.
        rows: of a test set, see `reftune.tasks.folder.read_set`.
        where: the set's name, for errors.

    Returns:
        `"prompt"` and `"completion"` of every row, or nothing.
    """
    if task.judge is not None and not task.loss:
        return []
    try:
        found = [task.example(row, f"{where}, row {n}") for n, row in enumerate(rows, start=1)]
    except ValueError:  # the questions alone are there, which is no error in a test set
        return []
    whole = all(isinstance(row["completion"], str) and row["completion"].strip() for row in found)
    return found if whole else []


def reference_loss(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: RowSet,
    recipe: TrainingRecipe,
) -> dict[str, Any] | None:
    """Return the loss of a test set's reference answers, cut as in training, if it is a score.

    Args:
        model: with or without an adapter.
        tokenizer: of the same model.
        task: whose set it is.
        rows: the set.
        recipe: says how rows are encoded, and how many go at a time.

    Returns:
        `metric`, `value`, `total` (of the tokens) and `interval`, which is `None`.
    """
    found = references(task, rows.rows, rows.origin)
    if not found:
        return None
    encoded, _ = encode_for(model, tokenizer, Dataset.from_list(found), recipe)
    collate = PaddingCollator(tokenizer, padding_side="right")
    loss = held_out_loss(model, collate, encoded, recipe.batch_size)
    return {"metric": "loss", "value": loss.value, "total": loss.tokens, "interval": None}
