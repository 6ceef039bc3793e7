"""The interventions of a `ReftModel` at the modules of its model: one hook for each."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reftune.hooking import Edit, edit_input, edit_output, runs_backward
from reftune.pyreft.applying import CollectIntervention, LambdaIntervention, apply
from reftune.pyreft.call import Call
from reftune.pyreft.checkpoints.key_names import keys_of
from reftune.pyreft.config import ReftConfig, RepresentationConfig
from reftune.pyreft.sites import Site, find_site

# Calls run one after another: the hooks of a model are shared by all threads.
_LOCK = threading.RLock()


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
        ValueError: the model has no such layer or component, or the intervention is for another
            width. Nothing is attached then.
    """

    def __init__(self, model: nn.Module, config: ReftConfig):
        self.interventions = Interventions()
        self.representations: dict[str, RepresentationConfig] = {}
        linked: dict[Any, nn.Module] = {}
        sites: list[Site] = []
        places = [one[:4] for one in config.representations]
        for key, one, kind in zip(
            keys_of(places), config.representations, config.intervention_types, strict=True
        ):
            sites.append(find_site(model, one))
            shared = one.intervention_link_key
            if shared is None or shared not in linked:
                linked[shared] = _intervention_of(one, kind, sites[-1])
            self.interventions[key] = linked[shared]
            self.representations[key] = one
        self._run = _Run(self.interventions)
        handles = [
            self._run.attach(index, key, site)
            for index, (key, site) in enumerate(zip(self.interventions, sites, strict=True))
        ]
        handles.append(model.register_forward_pre_hook(self._run.forget))
        self.remove = weakref.finalize(self, _remove, handles)

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
        run = self._run
        with _LOCK:
            outer, was_inside = run.call, run.inside
            run.call, run.thread = call, threading.get_ident()
            try:
                yield
            finally:
                if was_inside:
                    run.call = outer
                else:
                    run.thread = None


class _Run:
    """The call that is running, or the last one, for a backward pass that repeats layers of it."""

    def __init__(self, interventions: Interventions):
        self.interventions = interventions
        self.call: Call | None = None
        self.thread: int | None = None

    @property
    def inside(self) -> bool:
        """Whether the call runs in this thread."""
        return self.thread == threading.get_ident()

    def __reduce__(self) -> tuple:
        # A pickled model has hooks that do nothing.
        return type(self), (Interventions(),)

    def forget(self, model: nn.Module, args: tuple) -> None:
        """Forget the last call when its model is trained by itself."""
        if not self.inside and torch.is_grad_enabled():
            self.call = None

    def edit(self, index: int, key: str, hidden: Tensor) -> Tensor:
        """Return hidden states `(batch, tokens, width)`, edited where the running call says."""
        call = self.call
        if call is None or not (self.inside or runs_backward()):
            return hidden
        intervention = self.interventions[key]
        if isinstance(intervention, CollectIntervention):
            if self.inside:
                call.collect(index, hidden)
            return hidden
        subspaces = call.subspaces_of(index, len(hidden))
        act = partial(apply, intervention, subspaces=subspaces, extra=call.extra)
        return call.edit(index, hidden, act)

    def attach(self, index: int, key: str, site: Site) -> Any:
        """Hook a site."""
        hook = _Hook(self, index, key, site.third, site.shared)
        if site.side == "output":
            return site.owner.register_forward_hook(hook.on_output)
        return site.owner.register_forward_pre_hook(hook.on_input, with_kwargs=True)


class _Hook:
    """One intervention at one site."""

    def __init__(self, run: _Run, index: int, key: str, third: int | None, shared: bool):
        self.run, self.index, self.key = run, index, key
        self.third, self.shared = third, shared

    def on_output(self, owner: nn.Module, args: tuple, output: Any) -> Any:
        return edit_output(owner, output, self.edit)

    def on_input(self, owner: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return edit_input(owner, args, kwargs, self.edit_shared if self.shared else self.edit)

    def edit(self, hidden: Tensor) -> Tensor:
        edit: Edit = partial(self.run.edit, self.index, self.key)
        if self.third is None:
            return edit(hidden)
        parts = list(hidden.chunk(3, dim=-1))
        parts[self.third] = edit(parts[self.third])
        return torch.cat(parts, dim=-1)

    def edit_shared(self, hidden: Tensor) -> Tensor:
        """Edit in place, so that the other modules that are given the tensor see it edited."""
        edited = self.edit(hidden)
        if edited is hidden or (hidden.is_leaf and hidden.requires_grad):
            return edited
        return hidden.copy_(edited)

    def __deepcopy__(self, memo: dict) -> "_Hook":
        return self  # which does nothing in a copied model


def without_hooks(model: nn.Module) -> nn.Module:
    """Take the hooks of interventions, which do nothing there, from a copied model."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for number, hook in list(hooks.items()):
                if isinstance(getattr(hook, "__self__", None), _Hook | _Run):
                    del hooks[number]
                    module._forward_pre_hooks_with_kwargs.pop(number, None)
    return model


def _intervention_of(one: RepresentationConfig, kind: Any, site: Site) -> nn.Module:
    """Return the intervention of a representation, or make it from its class."""
    if one.intervention is not None:
        given = one.intervention
        made = given if isinstance(given, nn.Module) else LambdaIntervention(given)
    else:
        width = None if site.width is None else site.width * int(one.max_number_of_units)
        made = kind(**(one._asdict() | {"embed_dim": width}))
    width = getattr(made, "width", None)
    if None not in (width, site.width) and width != site.width:
        raise ValueError(
            f"{type(made).__name__}(embed_dim={width}) at component {one.component!r}, which has "
            f"hidden states of width {site.width}: expected embed_dim={site.width}"
        )
    return made


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
