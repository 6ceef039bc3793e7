"""Rows of a classification task as tokens, and what a classifier says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm import tqdm
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from reftune.experiments.kinds import Collate
from reftune.tasks import ClassificationTask
from reftune.tasks.labels import Labels
from reftune.tasks.sets import RowSet


def encode_rows(
    task: ClassificationTask,
    labels: Labels,
    rows: RowSet,
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
) -> Dataset:
    """Make tokens of texts, cut to so many, and numbers of labels.

    Returns:
        What the tokenizer makes of a row, and `labels`: the index of a class, or a number.

    Raises:
        ValueError: a row has not the form of the task; or no tokens.
    """
    texts, answers = [], []
    for number, row in enumerate(rows.rows, start=1):
        where = f"{rows.origin}, row {number}"
        texts.append(task.question(row, where))
        answers.append(labels.of(task.answer(row, where), where))
    second = [text["text_pair"] for text in texts] if are_pairs(texts, rows.origin) else None
    first = [text["text"] for text in texts]
    encoded = dict(tokenizer(first, second, truncation=True, max_length=longest))
    for number, ids in enumerate(encoded["input_ids"], start=1):
        if not ids:
            raise ValueError(f"{rows.origin}, row {number}: the text is empty; expected some")
    return Dataset.from_dict({**encoded, "labels": answers})


def are_pairs(texts: Sequence[Mapping[str, Any]], origin: str) -> bool:
    """Return whether the texts of a set, by `ClassificationTask.question`, are pairs.

    Raises:
        ValueError: some are and some are not.
    """
    pairs = {"text_pair" in text for text in texts}
    if len(pairs) > 1:
        raise ValueError(f'{origin}: only some rows have a "text_pair"; expected all or none')
    return True in pairs


def collator(tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> Collate:
    """Return what makes a batch, padded to its longest row.

    Args:
        tokenizer: has a padding token.
        dtype: of the model; labels that are numbers get it, or the loss has no gradient.
    """
    pad = DataCollatorWithPadding(tokenizer)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = dict(pad(rows))
        if batch["labels"].is_floating_point():
            batch["labels"] = batch["labels"].to(dtype)
        return batch

    return collate


@torch.no_grad()
def predict(
    model: nn.Module, rows: Dataset, collate: Collate, batch_size: int
) -> list[int] | list[float]:
    """Return the index of the likeliest class of every row, or the number.

    Rows of like length share a batch, the longest come first.

    Args:
        model: in evaluation mode.
        rows: see `encode_rows`.
        collate: see `collator`.
        batch_size: rows at a time.
    """
    lengths = [len(ids) for ids in rows["input_ids"]]
    order = sorted(range(len(rows)), key=lambda row: -lengths[row])
    where = next(model.parameters()).device
    found: dict[int, Any] = {}
    for start in tqdm(range(0, len(order), batch_size), desc="scoring", leave=False):
        chosen = order[start : start + batch_size]
        batch = collate([rows[row] for row in chosen])
        batch.pop("labels")
        logits = model(**{name: tensor.to(where) for name, tensor in batch.items()}).logits.float()
        answers = logits.squeeze(-1) if logits.shape[-1] == 1 else logits.argmax(dim=-1)
        found.update(zip(chosen, answers.tolist(), strict=True))
    return [found[row] for row in range(len(rows))]
