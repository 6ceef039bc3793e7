"""From the inputs of one forward pass to the tokens that are edited in it.

This is pure tensor arithmetic without a host synchronisation or a branch on a tensor's value, so
that it compiles into one graph. `reftune.planner` calls it once per forward pass; every edited
layer reads the result.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reftune.positions import Positions, columns_of


@dataclass(frozen=True)
class Where:
    """Which tokens an adapter edits: `ReftConfig`'s positions, tied and decode."""

    positions: Positions
    tied: bool
    decode: str | int

    @property
    def every_token(self) -> bool:
        """Whether it edits all tokens, so that it does not matter where the prompt ends."""
        return self.positions.everywhere and self.decode == "all"


@dataclass(frozen=True)
class Prompt:
    """What one forward pass knows of its rows.

    Args:
        tokens: `(batch, seq)` bool, true at the tokens of the prompt.
        completion: `(batch, seq)` bool, true at the tokens after it.
        document: `(batch, seq)` int64, non-decreasing along a row, where a row packs several
            prompts with their completions; `None` if each row is one.
        past: how many columns of `seq` lie before the first token of this forward pass.
        length: how many tokens this forward pass has.
    """

    tokens: Tensor
    completion: Tensor
    document: Tensor | None
    past: int
    length: int

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]


def everything(batch: int, length: int, device: torch.device) -> Prompt:
    """A prompt of all tokens, for inputs that are no tokens, such as pictures."""
    tokens = torch.ones(batch, length, dtype=torch.bool, device=device)
    return Prompt(tokens, torch.zeros_like(tokens), None, 0, length)


@dataclass(frozen=True)
class Decoding:
    """A forward pass that lies wholly after the prompt.

    Args:
        steps: how many generated tokens the rows had before it; `None` if nobody counted.
    """

    batch: int
    length: int
    steps: int | None
    device: torch.device


class Slots:
    """A fixed number of tokens per row, to be gathered, edited and written back.

    A slot that a short prompt leaves empty repeats the first used one of the batch, in what it
    reads and in what it writes, so that nothing has to be copied to make room for it. Only the used
    one carries the gradient. If no slot is used, all of them write a token's own state back.

    Args:
        index: `(batch, slots)`, or `(batch, 2, slots)` if untied: places in the flattened
            `(batch * length)` hidden states; `count` where a slot is empty.
        count: the number of places.
    """

    def __init__(self, index: Tensor, count: int):
        self.index, self.count = index, count
        flat = index.flatten()
        used, order = flat < count, torch.arange(flat.numel(), device=flat.device)
        self._some = used.any()
        self._slot = torch.where(used, order, used.int().argmax())
        self._place = torch.where(self._some, flat.index_select(0, self._slot), 0)
        self._carries = torch.where(self._some, used, order == 0)[:, None]

    def edit(self, hidden: Tensor, edit: Callable[[Tensor], Tensor]) -> Tensor:
        """Return hidden states `(batch, length, width)` in which the slots' tokens are edited.

        Args:
            hidden: is not changed.
            edit: maps states `(*index.shape, width)` to new ones of the same shape.
        """
        flat = hidden.reshape(-1, hidden.shape[-1])
        before = flat.index_select(0, self._place)
        after = edit(before.view(*self.index.shape, -1)).view_as(before)
        after = torch.where(self._some, after.index_select(0, self._slot), before)
        if after.requires_grad:
            after = torch.where(self._carries, after, after.detach())
        return flat.index_copy(0, self._place, after).view(hidden.shape)


@dataclass(frozen=True)
class Mask:
    """Any tokens.

    Args:
        used: `(batch, length, 1)`, or `(batch, 2, length, 1)` if untied, bool: true where edited,
            and by one of the two at most.
    """

    used: Tensor


Selection = Slots | Mask | None


def select(tokens: Prompt | Decoding, where: Where, rows: Tensor | None = None) -> Selection:
    """Return the tokens of a forward pass that an adapter edits; `None` if there can be none.

    Args:
        tokens: of all rows of the batch.
        where: which of them it edits.
        rows: `(rows,)` int64, in which rows it does; the selection has these alone. `None` for all.

    Raises:
        ValueError: the adapter edits the first k generated tokens, but nobody counted them.
    """

    def own(every: Tensor) -> Tensor:
        return every if rows is None else every[rows]

    if isinstance(tokens, Decoding):
        used = _used_in_decoding(tokens, where)
        return None if used is None else Mask(own(used))
    if where.positions.everywhere or where.decode == "all" or tokens.document is not None:
        return Mask(own(_used(tokens, where)))
    return Slots(own(_index(tokens, where)), tokens.batch * tokens.length)


def _used_in_decoding(tokens: Decoding, where: Where) -> Tensor | None:
    if where.decode == "none":
        return None
    if where.decode == "all":
        count = tokens.length
    elif tokens.steps is None:
        raise ValueError(
            f"decode={where.decode}: a forward pass that continues a cache outside of generate() "
            "does not tell how many tokens were generated before: expected generate(), or a "
            "prompt_mask over all tokens so far"
        )
    else:
        count = min(tokens.length, int(where.decode) - tokens.steps)
        if count <= 0:
            return None
    edited = torch.arange(tokens.length, device=tokens.device) < count
    edited = edited.expand(tokens.batch, -1)
    return _grouped(torch.zeros_like(edited), edited, where)


def _grouped(first: Tensor, last: Tensor, where: Where) -> Tensor:
    """Join what the first and the last edit act on, `(..., seq)` each, and add a dimension of 1."""
    joined = first | last if where.tied else torch.stack((first, last), dim=-2)
    return joined[..., None]


def _used(prompt: Prompt, where: Where) -> Tensor:
    rank, size = rank_of(prompt.tokens, prompt.document)
    first, last = where.positions.masks(rank, size)
    first, last = first & prompt.tokens, last & prompt.tokens
    if where.decode == "all":
        last = last | prompt.completion
    elif where.decode != "none":
        rank, _ = rank_of(prompt.completion, prompt.document)
        last = last | (prompt.completion & (rank < int(where.decode)))
    now = slice(prompt.past, prompt.past + prompt.length)
    return _grouped(first[:, now], last[:, now], where)


def _index(prompt: Prompt, where: Where) -> Tensor:
    (first, first_used), (last, last_used) = where.positions.slots(prompt.tokens)
    if where.decode != "none":
        reach = prompt.completion.cumsum(dim=1)
        rank = torch.arange(int(where.decode), device=reach.device).expand(prompt.batch, -1)
        last = torch.cat((last, columns_of(reach, rank)), dim=1)
        last_used = torch.cat((last_used, rank < reach[:, -1:]), dim=1)
    if where.tied:
        columns, used = torch.cat((first, last), dim=1), torch.cat((first_used, last_used), dim=1)
    else:
        width = max(first.shape[1], last.shape[1])
        columns = torch.stack([_padded(part, width) for part in (first, last)], dim=1)
        used = torch.stack([_padded(part, width) for part in (first_used, last_used)], dim=1)
    columns = columns - prompt.past
    used = used & (columns >= 0) & (columns < prompt.length)
    row = torch.arange(prompt.batch, device=columns.device) * prompt.length
    index = columns + row.view(-1, *(1,) * (columns.dim() - 1))
    return torch.where(used, index, prompt.batch * prompt.length)


def _padded(part: Tensor, width: int) -> Tensor:
    """Fill up `(batch, slots)` with zeros, which are false, to `width` slots."""
    return torch.nn.functional.pad(part, (0, width - part.shape[1]))


def rank_of(marked: Tensor, document: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the place of each marked token among those of its document, and how many they are.

    Args:
        marked: `(batch, seq)` bool.
        document: `(batch, seq)` int64, non-decreasing, or `None` if each row is one.

    Returns:
        Ranks from 0, `(batch, seq)` (a token that is not marked has the rank of the last marked one
        before it, or -1), and numbers that are broadcastable to them.
    """
    reach = marked.cumsum(dim=1)
    if document is None:
        return reach - 1, reach[:, -1:]
    sizes = torch.zeros_like(reach).scatter_add(1, document, marked.long())
    before = sizes.cumsum(dim=1) - sizes
    return reach - 1 - before.gather(1, document), sizes.gather(1, document)
