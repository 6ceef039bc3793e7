"""The edits of all slots at one site, stacked: a batch picks its rows from them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.activations import ACT2FN

from reftune.serving.lowering import LINEAR, SCALED, Lowered, LowRank, Scaling


@dataclass(frozen=True, eq=False)
class _Matrices:
    """`A`, `B`, `C`: (slots, rank, width); `b`: (slots, rank). Zeros where a slot has no edit."""

    A: Tensor
    b: Tensor
    B: Tensor
    C: Tensor


@dataclass(frozen=True, eq=False)
class _Scales:
    """(slots, width). Ones and zeros where a slot has no edit."""

    s: Tensor
    t: Tensor


class Bank:
    """The edits of one part (the first, or the last positions) of a site.

    Tables are replaced as a whole when they grow, so that a batch that reads them meanwhile sees
    the old ones, in which its own slots are the same.

    Args:
        slots: how many there are; slot 0 is the base model's and stays empty.
        width: of the hidden states.
        device: of the tables.
    """

    def __init__(self, slots: int, width: int, device: torch.device) -> None:
        self.slots, self.width, self.device = slots, width, device
        self.used: frozenset[int] = frozenset()
        self._matrices: _Matrices | None = None
        self._scales: _Scales | None = None

    def write(self, slot: int, edit: Lowered) -> None:
        """Give a slot, that no running request has, its edit."""
        self.clear(slot)
        if isinstance(edit, Scaling):
            if self._scales is None:
                shape = (self.slots, self.width)
                ones, zeros = (
                    fill(shape, device=self.device) for fill in (torch.ones, torch.zeros)
                )
                self._scales = _Scales(ones, zeros)
            self._scales.s[slot], self._scales.t[slot] = edit.s, edit.t
        else:
            tables, rank = self._wide_enough(edit), len(edit.b)
            tables.A[slot, :rank], tables.b[slot, :rank] = edit.A, edit.b
            tables.B[slot, :rank] = edit.B
            if edit.C is not None:
                tables.C[slot, :rank] = edit.C
        self.used = self.used | {slot}

    def clear(self, slot: int) -> None:
        """Make a slot the identity."""
        if slot not in self.used:
            return
        self.used = self.used - {slot}
        if self._matrices is not None:
            for table in (self._matrices.A, self._matrices.b, self._matrices.B, self._matrices.C):
                table[slot] = 0
        if self._scales is not None:
            self._scales.s[slot], self._scales.t[slot] = 1, 0

    def _wide_enough(self, edit: LowRank) -> _Matrices:
        """Return tables that have room for an edit's rank, and for its C if it has one."""
        old = self._matrices
        rank = max(len(edit.b), 0 if old is None else old.b.shape[1])
        with_c = edit.C is not None or (old is not None and old.C.shape[1] > 0)
        wanted = {"A": rank, "b": rank, "B": rank, "C": rank if with_c else 0}
        if old is not None and all(getattr(old, n).shape[1] == size for n, size in wanted.items()):
            return old
        tables = {}
        for name, size in wanted.items():
            shape = (self.slots, size) if name == "b" else (self.slots, size, self.width)
            tables[name] = torch.zeros(shape, device=self.device)
            if old is not None:
                known: Tensor = getattr(old, name)
                tables[name][:, : known.shape[1]] = known
        self._matrices = _Matrices(**tables)
        return self._matrices

    def edit(self, h: Tensor, slot: Tensor, kind: str) -> Tensor:
        """Return edited states.

        Args:
            h: `(segments, tokens, width)`, float32.
            slot: `(segments,)` int64, all with edits of one kind, or with none.
            kind: see `reftune.serving.lowering.kind_of`.
        """
        if kind == SCALED:
            scales = self._scales
            assert scales is not None
            return scales.s[slot, None] * h + scales.t[slot, None]
        tables = self._matrices
        assert tables is not None
        moved = torch.baddbmm(tables.b[slot, None], h, tables.A[slot].mT)
        if kind != LINEAR:
            moved = ACT2FN[kind](moved) - h @ tables.C[slot].mT
        return torch.baddbmm(h, moved, tables.B[slot])
