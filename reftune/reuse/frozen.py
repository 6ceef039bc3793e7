"""What of a model is the same at every training step, and what is kept of it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from reftune.plan import Where
from reftune.planner import Planner
from reftune.reuse.conditions import (
    counts_from_first_token,
    fingerprint,
    layers_of_stack,
    suffix_of,
    unedited,
    why_not,
)
from reftune.reuse.frozen_pass import FrozenPass
from reftune.reuse.rows import Row, read_rows
from reftune.reuse.step import Shape
from reftune.reuse.store import Parts, Store

# A step must become at least this much cheaper, because what is kept has to be put together.
WORTH = 0.85


@dataclass
class Frozen:
    """The part of a model that no edit can change.

    Attributes:
        planner: of the model.
        layers: its layers, in order; empty if they are not known.
        edited: the adapters that were looked at.
        below: how many of the first layers give what is never edited before it comes out.
        is_checkpointing: whether layers run again in the backward pass, without a cache.
        known: what must stay as it is for anything to be kept.
        store: where it is kept.
    """

    planner: Planner
    layers: list[nn.Module]
    edited: list[tuple[str, Where]]
    below: int
    is_checkpointing: bool
    known: list[tuple]
    store: Store = field(default_factory=Store)

    @classmethod
    def of(cls, planner: Planner, before: "Frozen | None") -> "Frozen":
        """Look at a model before a training step.

        Args:
            before: what was found at an earlier step.
        """
        root: Any = planner.root
        backbone, layers = root.base_model, layers_of_stack(root)
        # With an adapter per row the adapters may change from step to step.
        names = planner.planned() if planner.adapter_names is None else planner.where
        edited = [(name, planner.where[name]) for name in names]
        if before is not None and _are_same(edited, before.edited):
            below = before.below
        else:
            below = unedited(root, layers, names)
        checkpointing = any(
            getattr(module, "gradient_checkpointing", False) for module in (backbone, *layers)
        )
        suffix = any(suffix_of(where) is not None for _, where in edited)
        known = [(below, checkpointing, suffix), *fingerprint(backbone)]
        return cls(planner, layers, edited, below, checkpointing, known)

    def __post_init__(self) -> None:
        root: Any = self.planner.root
        self._pass = FrozenPass(self.planner, root.base_model, self.layers, self.below)
        self._counts_from_first: bool | None = None

    def why_not(self) -> str | None:
        """Return why nothing can be reused, or `None`."""
        root: Any = self.planner.root
        if not self.layers:
            return f"the layers of {type(root).__name__} are not known"
        if not self.below and self.is_checkpointing:
            return "its first layer is edited, and gradient checkpointing takes no cache"
        if not self.below and all(suffix_of(where) is None for _, where in self.edited):
            return "its first layer is edited, and other tokens than the last ones of the prompt"
        return why_not(root, root.base_model)

    def output(self, hidden: Tensor) -> Any:
        """Return hidden states as the layers give them."""
        assert self._pass.form is not None
        return self._pass.form.of(hidden)

    def rows(self, ids: Tensor, mask: Tensor | None, labels: Tensor) -> list[Row] | None:
        """Return the rows of a batch `(batch, seq)`, or `None` if it is no case for reuse."""
        suffixes = self._suffixes(len(ids))
        if len(suffixes) != len(ids) or not (self.below or any(suffixes)):
            return None
        rows = read_rows(ids, mask, labels, suffixes, whole=self.below > 0)
        if rows is None or not any(row.start for row in rows):
            return rows
        if self._counts_from_first is None:
            self._counts_from_first = counts_from_first_token(self.planner.root)
        return rows if self._counts_from_first else None

    def _suffixes(self, batch: int) -> list[int | None]:
        """Return per row how many of the last prompt tokens are edited, see `read_rows`."""
        where, names = self.planner.where, self.planner.adapter_names
        if self.is_checkpointing:  # which drops the cache
            return [None] * batch
        if names is not None:
            return [suffix_of(where[name]) if name in where else 1 for name in names]
        each = [suffix_of(where[name]) for name in self.planner.planned()]
        return [None if None in each else max(filter(None, each))] * batch

    def is_worth(self, shape: Shape, columns: int) -> bool:
        """Say whether a step with everything kept costs clearly less than one without reuse.

        In units of one token in one layer: a forward pass below the edits, forward and backward
        above them.
        """
        above = len(self.layers) - self.below
        plain = columns * (self.below + 2 * above)
        return 2 * above * shape.queries <= WORTH * plain

    def parts(self, rows: list[Row]) -> list[Parts]:
        """Return what is reused of every row; compute it if it is not kept."""
        found = {row.key: self.store.get(row.key) for row in rows}
        missing = list({row.key: row for row in rows if found[row.key] is None}.values())
        if missing:
            for row, parts in zip(missing, self._pass.compute(missing), strict=True):
                found[row.key] = parts
                self.store.put(row.key, parts)
        return [found[row.key] or {} for row in rows]


def _are_same(some: list[tuple[str, Where]], others: list[tuple[str, Where]]) -> bool:
    """Say whether adapters are the same ones; an equal one that came later may edit elsewhere."""
    if len(some) != len(others):
        return False
    pairs = zip(some, others, strict=True)
    return all(a == b and where is other for (a, where), (b, other) in pairs)
