"""The hooks on the model: they apply what is planned for a step with the edits of the slots."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reftune.hooking import edit_input, edit_output
from reftune.serving.adapters import ServedAdapter
from reftune.serving.bank import Bank
from reftune.serving.step import PARTS, Segments
from reftune.sites import Site

Place = tuple[str, str]  # module and side


class Editing:
    """Edits hidden states by slot.

    Args:
        model: that is hooked.
        slots: how many there are, with that of the base model.
    """

    def __init__(self, model: nn.Module, slots: int) -> None:
        self.model, self.slots = model, slots
        self._banks: dict[Place, tuple[Bank, ...]] = {}
        self._due: dict[Place, list[tuple[Segments, Bank]]] = {}

    def hooked(self, adapter: ServedAdapter) -> bool:
        """Say whether all sites of an adapter have their hooks."""
        return all((site.module, site.side) in self._banks for site in adapter.edits)

    def hook(self, adapter: ServedAdapter) -> None:
        """Hook the sites of an adapter that are not yet; no forward pass may be running."""
        for site in adapter.edits:
            if (site.module, site.side) not in self._banks:
                self._hook(site)

    def write(self, slot: int, adapter: ServedAdapter) -> None:
        """Put an adapter into a slot that no running request has."""
        edits = {(site.module, site.side): of for site, of in adapter.edits.items()}
        for place, banks in self._banks.items():
            for part, bank in zip(PARTS, banks, strict=True):
                of_site = edits.get(place, ())
                if part < len(of_site):
                    bank.write(slot, of_site[part])
                else:
                    bank.clear(slot)

    def begin(self, plan: tuple[Segments, ...]) -> None:
        """Set what the next forward pass edits."""
        self._due = {}
        for place, banks in self._banks.items():
            wanted = [(s, banks[s.part]) for s in plan if s.slots & banks[s.part].used]
            if wanted:
                self._due[place] = wanted

    def end(self) -> None:
        """Hold what was edited against the plan.

        Raises:
            RuntimeError: a hook did not run that had something to edit.
        """
        if self._due:
            missed = ", ".join(sorted(module for module, _ in self._due))
            raise RuntimeError(
                f"nothing went through {missed} in a step that was to be edited there: expected "
                "the engine to run the model's own forward pass, once per step"
            )

    def _hook(self, site: Site) -> None:
        width = site.width * (site.heads or 1)
        owner = self.model.get_submodule(site.module)
        device = next(iter(owner.parameters()), next(self.model.parameters())).device
        place = site.module, site.side
        edit = partial(self._edited, place)
        if site.side == "output":
            owner.register_forward_hook(partial(self._edit_output, place, edit))
        else:
            owner.register_forward_pre_hook(
                partial(self._edit_input, place, edit), with_kwargs=True
            )
        self._banks[place] = tuple(Bank(self.slots, width, device) for _ in PARTS)

    def _edit_output(
        self,
        place: Place,
        edit: Callable[[Tensor], Tensor],
        owner: nn.Module,
        args: tuple,
        output: Any,
    ) -> Any:
        return edit_output(owner, output, edit) if place in self._due else None

    def _edit_input(
        self,
        place: Place,
        edit: Callable[[Tensor], Tensor],
        owner: nn.Module,
        args: tuple,
        kwargs: dict,
    ) -> Any:
        return edit_input(owner, args, kwargs, edit) if place in self._due else None

    def _edited(self, place: Place, hidden: Tensor) -> Tensor:
        wanted = self._due.pop(place)
        flat = hidden.reshape(-1, hidden.shape[-1])
        with torch.autocast(hidden.device.type, enabled=False):
            for segments, bank in wanted:
                before = flat.index_select(0, segments.index).float()
                runs = before.view(len(segments.slot), segments.longest, -1)
                after = bank.edit(runs, segments.slot, segments.kind).flatten(0, 1)
                real = _bounded(after.index_select(0, segments.real), flat.dtype)
                flat = flat.index_copy(0, segments.target, real)
        return flat.view(hidden.shape)


def _bounded(states: Tensor, dtype: torch.dtype) -> Tensor:
    """Keep states so small that what follows from them is a number.

    Attention multiplies what a token must not see by zero, and zero times infinity would go into
    the answers of all requests of the batch. No model that works has states of this size.
    """
    most = min(1e15, torch.finfo(dtype).max / 2)
    return states.nan_to_num(0.0).clamp(-most, most).to(dtype)
