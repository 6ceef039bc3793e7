"""What the edits of a forward pass need of their parameters, before they see hidden states.

The orthonormal rows of all edits are one batched computation, and the edits of alike adapters, if
every row of a batch has its own, become one edit per site. While nothing is trained, both are kept
from one forward pass to the next.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reftune.divided import is_whole
from reftune.hooking import runs_backward, without_autocast
from reftune.interventions import Rotated
from reftune.orthonormal import orthonormal

Names = tuple[str, ...]
# An edit, or one that stands for several, and what was prepared for it.
Ready = tuple[nn.Module, tuple[Tensor, ...]]


class Rotations:
    """Prepares the edits below a root."""

    def __init__(self) -> None:
        self._edits: dict[str, list[nn.Module]] = defaultdict(list)
        self._ready: dict[int, Ready] = {}  # by the first of the edits
        self._kept: dict[Names, tuple[list, dict[int, Ready]]] = {}
        self._repeated: set[int] = set()

    def add(self, adapter: str, edit: nn.Module) -> None:
        """Take in an edit of an adapter; alike adapters give theirs in the same order."""
        self._edits[adapter].append(edit)

    def remove(self, adapter: str) -> None:
        """Forget the edits of an adapter."""
        self._edits.pop(adapter, None)
        self._kept = {names: kept for names, kept in self._kept.items() if adapter not in names}

    def are_here(self, adapter: str) -> bool:
        """Say whether the edits of an adapter can be joined with others now.

        FSDP and ZeRO put away the parameters of all of them, or of none.
        """
        return _is_here(self._edits[adapter][0])

    def of(self, edits: Sequence[nn.Module]) -> Ready:
        """Return an edit that stands for a group's edits at one site, and what was prepared for it.

        Nothing was if it prepares that itself. Re-entrant checkpointing runs a layer without
        gradients, and again in a backward pass of its own, in which the graph of what all layers
        share would be freed.
        """
        key = id(edits[0])
        ready = self._ready.get(key)
        if ready is None:
            return joined(edits), ()
        if any(tensor.requires_grad for tensor in ready[1]):
            if not torch.is_grad_enabled():
                self._repeated.add(key)
            elif key in self._repeated and runs_backward():
                return joined(edits), ()
        return ready

    @property
    def prepared(self) -> tuple[dict[int, Ready], set[int]]:
        """What is ready for the running forward pass; set, it is ready again for an earlier one."""
        return self._ready, self._repeated

    @prepared.setter
    def prepared(self, earlier: tuple[dict[int, Ready], set[int]]) -> None:
        self._ready, self._repeated = earlier

    def prepare(self, groups: Collection[Names]) -> None:
        """Prepare the edits of groups of alike adapters for a forward pass."""
        self._ready, self._repeated = {}, set()
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            # What is trained now may change without a trace: fused optimizers leave versions alone.
            trained = {name for names in groups for name in names}
            self._kept = {k: kept for k, kept in self._kept.items() if not trained & set(k)}
            for ready in self._made(groups).values():
                self._ready |= ready
            return
        states = {names: self._state(names) for names in groups}
        # Adapters take turns; which of them meet in a batch seldom comes again.
        kept = {names: k for names, k in self._kept.items() if len(names) == 1 or names in states}
        changed = [n for n, state in states.items() if n not in kept or kept[n][0] != state]
        kept |= {names: (states[names], ready) for names, ready in self._made(changed).items()}
        self._kept = kept
        for names in groups:
            self._ready |= kept[names][1]

    def _made(self, groups: Collection[Names]) -> dict[Names, dict[int, Ready]]:
        made: dict[Names, dict[int, Ready]] = {}
        rotated: dict[tuple, list[tuple[Names, int, Rotated]]] = defaultdict(list)
        for names in groups:
            made[names] = {}
            for edits in zip(*(self._edits[name] for name in names), strict=True):
                edit, key = joined(edits), id(edits[0])
                made[names][key] = edit, ()
                if isinstance(edit, Rotated) and _is_here(edits[0]):
                    weight = edit.weight
                    shape = edits[0].weight.shape
                    rotated[shape, weight.dtype, weight.device].append((names, key, edit))
        for (shape, _, device), edits in rotated.items():
            with without_autocast(device):
                weights = [edit.weight.reshape(-1, *shape) for _, _, edit in edits]
                parts = orthonormal(torch.cat(weights)).split([len(weight) for weight in weights])
                for (names, key, edit), R in zip(edits, parts, strict=True):
                    made[names][key] = edit, edit.prepare(R.view(edit.weight.shape))
        return made

    def _state(self, names: Names) -> list[tuple[int, int]]:
        """Return what changes when a parameter of an adapter does."""
        return [
            (parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version)
            for name in names
            for edit in self._edits[name]
            for parameter in edit._parameters.values()
            if parameter is not None
        ]

    def __getstate__(self) -> dict:
        # A copy has other edits, and a graph cannot be copied.
        return vars(self) | {"_ready": {}, "_kept": {}, "_repeated": set()}


def joined(edits: Sequence[nn.Module]) -> nn.Module:
    """Return one edit that stands for alike ones: their parameters have a first dimension more."""
    if len(edits) == 1:
        return edits[0]
    own: list[Any] = [edit._parameters for edit in edits]
    return _with(edits[0], {name: torch.stack([one[name] for one in own]) for name in own[0]})


def of_rows(ready: Ready, member: Tensor) -> Ready:
    """Return an edit of which every row has that of its adapter.

    Args:
        ready: with parameters of shape `(adapters, ...)`.
        member: `(rows,)`, the adapter of every row.
    """
    edit, prepared = ready
    own: Any = edit._parameters
    own = {name: stacked.index_select(0, member) for name, stacked in own.items()}
    return _with(edit, own), tuple(tensor.index_select(0, member) for tensor in prepared)


def _with(edit: nn.Module, parameters: dict[str, Tensor]) -> nn.Module:
    """Return an edit with other parameters.

    `torch.func.functional_call` would do so for its `forward` alone, but there is `prepare` too;
    and `copy.copy` cannot be compiled.
    """
    other = object.__new__(type(edit))
    vars(other).update(vars(edit), _parameters=parameters)
    vars(other).pop("forward", None)  # of accelerate's hooks, would call the edit that is here
    return other


def _is_here(edit: nn.Module) -> bool:
    """Say whether an edit's parameters are here: engines bring some when its `forward` runs."""
    own = [parameter for parameter in edit._parameters.values() if parameter is not None]
    return bool(own) and all(map(is_whole, own))
