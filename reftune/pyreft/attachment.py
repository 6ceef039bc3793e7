"""The interventions of a `ReftModel` at the modules of its model: one hook for each."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reftune.hooking import Edit, edit_input, edit_output
from reftune.planner import runs_backward
from reftune.pyreft.applying import CollectIntervention, LambdaIntervention, apply
from reftune.pyreft.call import Call
from reftune.pyreft.config import ReftConfig, RepresentationConfig
from reftune.pyreft.sites import Site, find_site


class Interventions(nn.ModuleDict):
    """The interventions by key; the dotted spelling of older versions is understood."""

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(key.replace(".", "_"))

    def __contains__(self, key: str) -> bool:
        return super().__contains__(key.replace(".", "_"))


class Attachment:
    """The hooks of the interventions of one config in one model.

    They act only within `running`, and in the backward pass of what ran there, where a checkpointed
    layer runs again; they are removed when the attachment is forgotten.

    Attributes:
        interventions: the edits, by key.
        representations: where they are, by the same keys.

    Raises:
        ValueError: the model has no such layer or component. Nothing is attached then.
    """

    def __init__(self, model: nn.Module, config: ReftConfig):
        self.interventions = Interventions()
        self.representations: dict[str, RepresentationConfig] = {}
        linked: dict[Any, nn.Module] = {}
        sites = []
        for one, kind in zip(config.representations, config.intervention_types, strict=True):
            sites.append(find_site(model, one))
            shared = one.intervention_link_key
            if shared is None or shared not in linked:
                linked[shared] = _intervention_of(one, kind, sites[-1])
            number = sum(known.rpartition("#")[0] == one.key for known in self.representations)
            key = f"{one.key}#{number}"
            self.interventions[key] = linked[shared]
            self.representations[key] = one
        self._run = _Run()
        handles = [
            self._run.hook(site, index, module)
            for index, (site, module) in enumerate(
                zip(sites, self.interventions.values(), strict=True)
            )
        ]
        weakref.finalize(self, _remove, handles)

    def config_of(self, interventions: Interventions) -> ReftConfig:
        """Return a config for the same places with other interventions of the same keys."""
        places = self.representations.items()
        return ReftConfig(
            representations=[
                one._replace(intervention=interventions[key], intervention_type=None)
                for key, one in places
            ]
        )

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Edit what the model computes within the block."""
        before = self._run.inside
        self._run.call, self._run.inside = call, True
        try:
            yield
        finally:
            self._run.inside = before


class _Run:
    """The call that is running, or the last one, for a backward pass that repeats layers of it."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.inside = False

    def edit(self, index: int, intervention: nn.Module, hidden: Tensor) -> Tensor:
        """Return hidden states `(batch, tokens, width)`, edited where the running call says."""
        call = self.call
        if call is None or not (self.inside or runs_backward()):
            return hidden
        selection = call.selection(index, hidden)
        if selection is None:
            return hidden
        subspaces = call.subspaces_of(index, len(hidden))
        if isinstance(intervention, CollectIntervention):
            call.collect(index, hidden, selection)
            return hidden
        act = partial(apply, intervention, subspaces=subspaces, extra=call.extra)
        return act(hidden) if isinstance(selection, str) else selection.edit(hidden, act)

    def hook(self, site: Site, index: int, intervention: nn.Module) -> Any:
        """Put an intervention at its site."""
        edit = partial(self.edit, index, intervention)
        if site.third is not None:
            edit = partial(_edit_third, edit, site.third)
        if site.side == "output":
            return site.owner.register_forward_hook(
                lambda owner, args, output: edit_output(owner, output, edit)
            )
        edit = partial(_edit_in_place, edit)
        return site.owner.register_forward_pre_hook(
            lambda owner, args, kwargs: edit_input(owner, args, kwargs, edit), with_kwargs=True
        )


def _edit_third(edit: Edit, third: int, hidden: Tensor) -> Tensor:
    parts = list(hidden.chunk(3, dim=-1))
    parts[third] = edit(parts[third])
    return torch.cat(parts, dim=-1)


def _edit_in_place(edit: Edit, hidden: Tensor) -> Tensor:
    """Edit what goes into a module as pyvene does: others that are given it see it edited too."""
    edited = edit(hidden)
    if edited is hidden or (hidden.is_leaf and hidden.requires_grad):
        return edited
    return hidden.copy_(edited)


def _intervention_of(one: RepresentationConfig, kind: Any, site: Site) -> nn.Module:
    """Return the intervention of a representation, or make it from its class."""
    if isinstance(one.intervention, nn.Module):
        return one.intervention
    if one.intervention is not None:
        return LambdaIntervention(one.intervention)
    width = None if site.width is None else site.width * int(one.max_number_of_units)
    return kind(**(one._asdict() | {"embed_dim": width}))


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
