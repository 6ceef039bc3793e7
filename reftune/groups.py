"""Adapters that are applied in one call: which are alike, and which rows each of them has."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn

from reftune.config import ReftConfig
from reftune.interventions import options
from reftune.plan import Decoding, Prompt, Selection, Where, select

BASE = "__base__"
# What adapters may differ in besides PEFT's own fields: modules that are no edits.
_ELSEWHERE = {"modules_to_save"} | {field.name for field in fields(PeftConfig)}


@dataclass(frozen=True, eq=False)
class Group:
    """Adapters that differ in nothing but their parameters.

    Args:
        names: of the adapters.
        where: which tokens they edit.
        rows: `(rows,)` int64, which rows of the batch they edit; `None` for all.
        member: `(rows,)` int64, for each of those rows the place of its adapter in `names`; `None`
            if one adapter has them all, or if every adapter has one row, in this order.
    """

    names: tuple[str, ...]
    where: Where
    rows: Tensor | None = None
    member: Tensor | None = None

    def select(self, tokens: Prompt | Decoding) -> Selection:
        """Return the tokens that the group edits, in its rows."""
        return select(tokens, self.where, self.rows)


def likeness(config: ReftConfig, edits: Sequence[nn.Module]) -> Hashable:
    """Return what is equal for adapters that are alike; `None` if an adapter stays alone.

    It does if its edits cannot stand for several: they take no `stack`, or have tensors besides
    their own parameters.
    """
    stackable = "stack" in options(config.intervention) and all(
        len(edit.state_dict()) == len(edit._parameters) for edit in edits
    )
    if not stackable:
        return None
    own = [field.name for field in fields(config) if field.name not in _ELSEWHERE]
    return str([(name, getattr(config, name)) for name in own])


def every_row(names: Sequence[str], batch: int, copied: bool = False) -> list[str]:
    """Return the adapter of every row of a batch.

    Args:
        names: one name per row.
        batch: how many rows there are.
        copied: whether there may be several copies of every row, beside each other, as of beams.

    Raises:
        ValueError: there is not one name per row.
    """
    copies, rest = divmod(batch, len(names)) if names else (0, batch)
    if rest or (copies != 1 and not copied):
        raise ValueError(f"{len(names)} adapter_names for {batch} rows: expected one per row")
    return [name for name in names for _ in range(copies)]


def grouped(
    names: Sequence[str],
    where: dict[str, Where],
    kind: Callable[[str], Hashable],
    device: torch.device,
) -> list[Group]:
    """Return the groups of adapters that edit a batch.

    Args:
        names: the adapter of every row; those that `where` does not have edit nothing.
        where: what each adapter edits.
        kind: what is equal for the adapters of a group.
        device: of the groups' tensors.
    """
    together: dict[Any, dict[str, list[int]]] = {}
    for row, name in enumerate(names):
        if name in where:
            together.setdefault(kind(name), {}).setdefault(name, []).append(row)
    groups = []
    for rows_of in together.values():
        member = {row: place for place, rows in enumerate(rows_of.values()) for row in rows}
        rows, everyone = sorted(member), len(member) == len(names)
        plain = len(rows_of) in (1, len(rows))
        groups.append(
            Group(
                tuple(rows_of),
                where[next(iter(rows_of))],
                None if everyone else torch.tensor(rows, device=device),
                None if plain else torch.tensor([member[row] for row in rows], device=device),
            )
        )
    return groups
