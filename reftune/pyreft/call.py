"""One call of a `ReftModel`: which tokens of which hidden states its interventions edit now.

A call is a forward pass, or all forward passes of `generate`. There pyvene edits either the prompt
(`intervene_on_prompt=True`) or the tokens after it. It takes the first call of a hook for the
prompt; here the cache tells, so that a generation without one, or a prompt in chunks, is edited at
the same tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from reftune.hooking import Edit
from reftune.plan import Slots
from reftune.prompts import Inputs, Kind
from reftune.pyreft.locations import Places, spread


class Everything:
    """The selection of every token."""


@dataclass
class Call:
    """What a call edits.

    Args:
        places: the positions of every intervention, see `read_locations`.
        subspaces: the subspaces of every intervention, see `read_subspaces`.
        phase: a forward pass; or in `generate`, where the prompt is edited, or what comes after.
        length: of the prompt; 0 if only the forward passes tell it.
        extra: further arguments of the interventions.

    Attributes:
        collected: the hidden states of the interventions that only collect, by their index.
    """

    places: Places
    subspaces: list[Any]
    phase: Literal["forward", "prompt", "generated"] = "forward"
    length: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    collected: dict[int, list[Tensor]] = field(default_factory=dict)
    _selected: dict[tuple, Slots | Everything | None] = field(default_factory=dict)
    _past: int = 0
    _seen: int = 0
    _within: bool = False

    @contextmanager
    def watching(self, root: Any) -> Iterator[None]:
        """Note the forward passes of a transformers model that generates."""
        kind: Kind = "decoder" if root.config.is_encoder_decoder else "causal"
        handles = [
            root.register_forward_pre_hook(
                lambda root, args, kwargs: self._enter(Inputs(kwargs, kind)), with_kwargs=True
            ),
            root.register_forward_hook(lambda *passed: self._leave(), always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, inputs: Inputs) -> None:
        if not inputs.has_tokens:
            return
        self._past = self._seen if inputs.uncounted else int(inputs.past)
        self._seen = self._past + inputs.length
        self._within = True
        self._selected.clear()
        self.length = self.length or self._seen

    def _leave(self) -> None:
        self._within = False

    def subspaces_of(self, index: int, rows: int) -> Any:
        """Return the subspaces of an intervention for each of the rows that there are now."""
        given = self.subspaces[index]
        if not isinstance(given, list | tuple) or not given or rows % len(given):
            return given
        return [one for one in given for _ in range(rows // len(given))]

    def collect(self, index: int, hidden: Tensor) -> None:
        """Keep the hidden states of an intervention's positions, `(batch, positions, width)`."""
        selection, kept = self._selection(index, hidden), hidden
        if isinstance(selection, Slots):
            flat = hidden.reshape(-1, hidden.shape[-1])
            kept = flat[selection.index.clamp(max=len(flat) - 1)]
        if selection is not None:
            self.collected.setdefault(index, []).append(kept)

    def edit(self, index: int, hidden: Tensor, edit: Edit) -> Tensor:
        """Return hidden states `(batch, tokens, width)` edited at an intervention's positions.

        Raises:
            ValueError: a position is not in them.
        """
        selection = self._selection(index, hidden)
        if selection is None:
            return hidden
        return selection.edit(hidden, edit) if isinstance(selection, Slots) else edit(hidden)

    def _selection(self, index: int, hidden: Tensor) -> Slots | Everything | None:
        places, batch, tokens = self.places[index], hidden.shape[0], hidden.shape[1]
        asked = (id(places), self._within, batch, tokens, hidden.device)
        if asked not in self._selected:
            self._selected[asked] = self._select(places, batch, tokens, hidden.device)
        return self._selected[asked]

    def _select(
        self, places: Tensor | None, batch: int, tokens: int, device: torch.device
    ) -> Slots | Everything | None:
        if self.phase == "generated":
            return self._generated(places, batch, tokens, device)
        if places is None:
            return Everything()
        columns = spread(places, batch)
        past = self._past if self._within else 0
        limit = max(tokens, self.length)
        if past == 0 and columns.numel() and int(columns.max()) >= limit:
            raise ValueError(
                f"unit_locations: position {int(columns.max())} in hidden states of {limit} "
                "tokens; expected columns of the batch, counted from 0"
            )
        if past >= self.length > 0:
            return None
        return _slots(columns - past, tokens, device)

    def _generated(
        self, places: Tensor | None, batch: int, tokens: int, device: torch.device
    ) -> Slots | None:
        if places is not None and bool(places.any()):
            raise ValueError(
                f"unit_locations {places.tolist()} with intervene_on_prompt=False, which edits "
                "every generated token: expected position 0, or none, or intervene_on_prompt=True"
            )
        first = max(0, self.length - self._past)
        if not self._within or first >= tokens:
            return None
        return _slots(torch.arange(first, tokens).expand(batch, -1), tokens, device)


def _slots(columns: Tensor, tokens: int, device: torch.device) -> Slots:
    """Return the places of columns `(batch, positions)`; those that are not there edit nothing."""
    batch = len(columns)
    index = columns + torch.arange(batch)[:, None] * tokens
    there = (columns >= 0) & (columns < tokens)
    return Slots(torch.where(there, index, batch * tokens).to(device), batch * tokens)
