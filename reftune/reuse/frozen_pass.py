"""Computes, once and without gradients, what no edit can change in the rows of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from reftune.planner import Planner
from reftune.reuse.prefix_cache import states_of
from reftune.reuse.rows import Row, right_padded
from reftune.reuse.skipping import Form, skipped
from reftune.reuse.store import Parts


class FrozenPass:
    """The frozen model below the edits.

    Args:
        planner: of the model; its edits are off in this pass.
        backbone: the model without its head.
        layers: its layers, in order.
        below: how many of the first layers give what is never edited before it comes out.

    Attributes:
        form: how its layers give their hidden states; known after the first pass if `below` is
            not 0.
    """

    def __init__(self, planner: Planner, backbone: Any, layers: list[nn.Module], below: int):
        self.planner, self.backbone, self.layers = planner, backbone, layers
        self.below = below
        self.form: Form | None = None

    def compute(self, rows: list[Row]) -> list[Parts]:
        """Return of every row what can be kept.

        Returns:
            `"hidden"`, `(tokens, width)`, what comes out of the last layer below the edits, if
            there is one; `"states"`, `(layers, 2, heads, frozen, width)`, keys and values of the
            row's frozen tokens in the layers after that, if it has such tokens.

        Raises:
            ValueError: the layers of the model do not give what is expected.
        """
        parts: list[dict[str, Tensor]] = [{} for _ in rows]
        with self._edits_off(), torch.no_grad():
            hidden = self._hidden(rows) if self.below else None
            if hidden is not None:
                for part, row, of_row in zip(parts, rows, hidden, strict=True):
                    part["hidden"] = of_row[: len(row)]
            if any(row.frozen for row in rows):
                states = self._states(rows, hidden)
                for line, (part, row) in enumerate(zip(parts, rows, strict=True)):
                    if row.frozen:
                        part["states"] = states[:, :, line, :, : row.frozen]
        return list(parts)

    def _hidden(self, rows: list[Row]) -> Tensor:
        """Return `(rows, tokens, width)`."""
        given: list[Any] = []
        last = self.layers[self.below - 1]
        # Before other hooks, which will be called again with what is kept.
        hook = last.register_forward_hook(lambda *args: given.append(args[-1]), prepend=True)
        try:
            with skipped(self.layers[self.below :], lambda: given[0]):
                self._call(rows, max(map(len, rows)), use_cache=False)
        finally:
            hook.remove()
        self.form = Form(given[0])
        return self.form.hidden

    def _states(self, rows: list[Row], hidden: Tensor | None) -> Tensor:
        """Return `(layers, 2, rows, heads, tokens, width)`."""
        length, cache = max(row.frozen for row in rows), DynamicCache()
        given = None
        if hidden is not None:
            assert self.form is not None
            given = self.form.of(hidden[:, :length])
        with skipped(self.layers[: self.below], lambda: given):
            self._call(rows, length, past_key_values=cache, use_cache=True)
        states = states_of(cache, self.below)
        if len(states) != len(self.layers) - self.below:
            raise ValueError(f"{len(states)} layers with keys and values: expected as many as run")
        return states

    def _call(self, rows: list[Row], length: int, **given: Any) -> None:
        ids, mask = (tensor.to(self.backbone.device) for tensor in right_padded(rows, length))
        self.backbone(input_ids=ids, attention_mask=mask, **given)

    @contextmanager
    def _edits_off(self) -> Iterator[None]:
        planner = self.planner
        before = planner.enabled, planner.idle
        planner.enabled, planner.idle = False, True
        try:
            yield
        finally:
            planner.enabled, planner.idle = before
