"""The rows of a training step: their tokens, and how many of them no edit can change."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One example of a batch, without its padding.

    Args:
        ids: `(tokens,)` int64, on the CPU.
        labels: `(tokens,)`, -100 on the prompt.
        prompt: how many of the tokens are prompt.
        start: the column of its first token in the batch.
        frozen: how many of its first tokens no edit can change, at any layer.
        whole: whether what is kept of it also depends on its tokens after those.
    """

    ids: Tensor
    labels: Tensor
    prompt: int
    start: int
    frozen: int
    whole: bool

    @property
    def key(self) -> bytes:
        """Return what tells it from other rows; equal for rows of which the same is kept."""
        shown = self.ids if self.whole else self.ids[: self.frozen]
        digest = hashlib.blake2b(shown.numpy().tobytes(), digest_size=16)
        return digest.digest() + self.frozen.to_bytes(4, "little")

    def __len__(self) -> int:
        return len(self.ids)


def read_rows(
    ids: Tensor, mask: Tensor | None, labels: Tensor, suffixes: list[int | None], whole: bool
) -> list[Row] | None:
    """Return the rows of a batch, or `None` if one is no prompt with a completion after it.

    Args:
        ids: `(batch, seq)`.
        mask: `(batch, seq)`, 0 at padding, or `None` if there is none.
        labels: `(batch, seq)`, -100 on the prompt and on padding.
        suffixes: per row, how many of the last prompt tokens are edited at most; `None` if others
            are, too.
        whole: see `Row`.
    """
    real = torch.ones_like(ids) if mask is None else mask.to(ids.dtype)
    # One copy from the device, and so one synchronisation.
    ids, real, labels = torch.stack((ids, real, labels)).cpu().unbind()
    rows = []
    for tokens, used, wanted, suffix in zip(ids, real != 0, labels, suffixes, strict=True):
        places, labelled = used.nonzero()[:, 0], (wanted != -100).nonzero()[:, 0]
        if not (_is_run(places) and _is_run(labelled)):
            return None
        start, end = int(places[0]), int(places[-1]) + 1
        first = int(labelled[0])
        if not start < first <= int(labelled[-1]) < end:
            return None
        prompt = first - start
        frozen = 0 if suffix is None else max(0, prompt - suffix)
        rows.append(Row(tokens[start:end], wanted[start:end], prompt, start, frozen, whole))
    return rows


def _is_run(places: Tensor) -> bool:
    """Say whether places follow each other without a gap, and there is one."""
    return len(places) > 0 and int(places[-1] - places[0]) == len(places) - 1


def right_padded(rows: list[Row], length: int) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask `(rows, length)` of the first tokens of rows."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for line, row in enumerate(rows):
        shown = row.ids[:length]
        ids[line, : len(shown)], mask[line, : len(shown)] = shown, 1
    return ids, mask


def right_aligned(rows: list[Row], length: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return rows with all their padding on the left, `(rows, length)` each.

    Returns:
        Ids, attention mask, labels, places in the row (0 at padding), and where the prompt is.
    """
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask, places, prompt = (torch.zeros_like(ids) for _ in range(3))
    labels = torch.full_like(ids, -100)
    for line, row in enumerate(rows):
        begin = length - len(row)
        ids[line, begin:], mask[line, begin:], labels[line, begin:] = row.ids, 1, row.labels
        places[line, begin:] = torch.arange(len(row))
        prompt[line, begin : begin + row.prompt] = 1
    return ids, mask, labels, places, prompt
