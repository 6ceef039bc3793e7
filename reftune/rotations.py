"""The orthonormal rows of all edits at once: one batched computation per forward pass.

While nothing is trained they are kept from one forward pass to the next.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from reftune.hooking import runs_backward, without_autocast
from reftune.interventions import Rotated
from reftune.orthonormal import orthonormal

Prepared = dict[int, tuple[Tensor, ...]]


class Rotations:
    """What the edits below a root need of their parameters, before they see hidden states."""

    def __init__(self) -> None:
        self._edits: dict[str, list[Rotated]] = defaultdict(list)
        self._prepared: Prepared = {}
        self._kept: dict[str, tuple[list, Prepared]] = {}
        self._repeated: set[int] = set()

    def add(self, adapter: str, edit: nn.Module) -> None:
        """Take in an edit of an adapter, if it has orthonormal rows."""
        if isinstance(edit, Rotated):
            self._edits[adapter].append(edit)

    def remove(self, adapter: str) -> None:
        """Forget the edits of an adapter."""
        self._edits.pop(adapter, None)
        self._kept.pop(adapter, None)

    def of(self, edit: nn.Module) -> tuple[Tensor, ...]:
        """Return what was prepared for an edit; nothing if it prepares that itself.

        Re-entrant checkpointing runs a layer without gradients, and again in a backward pass of its
        own, in which the graph of what all layers share would be freed.
        """
        prepared = self._prepared.get(id(edit), ())
        if any(tensor.requires_grad for tensor in prepared):
            if not torch.is_grad_enabled():
                self._repeated.add(id(edit))
            elif id(edit) in self._repeated and runs_backward():
                return ()
        return prepared

    def prepare(self, adapters: Iterable[str]) -> None:
        """Prepare the edits of adapters for a forward pass."""
        self._prepared, self._repeated = {}, set()
        for adapter in adapters:
            edits = [edit for edit in self._edits.get(adapter, []) if _is_whole(edit.weight)]
            if torch.is_grad_enabled() or torch.compiler.is_compiling():
                self._kept.pop(adapter, None)
                self._prepared |= _prepare(edits)
                continue
            state = [_state(parameter) for edit in edits for parameter in edit.parameters()]
            if adapter not in self._kept or self._kept[adapter][0] != state:
                self._kept[adapter] = (state, _prepare(edits))
            self._prepared |= self._kept[adapter][1]

    def __getstate__(self) -> dict:
        # A copy has other edits, and a graph cannot be copied.
        return vars(self) | {"_prepared": {}, "_kept": {}, "_repeated": set()}


def _prepare(edits: list[Rotated]) -> Prepared:
    alike: dict[tuple, list[Rotated]] = defaultdict(list)
    for edit in edits:
        alike[edit.weight.shape, edit.weight.dtype, edit.weight.device].append(edit)
    prepared: Prepared = {}
    for (_, _, device), group in alike.items():
        with without_autocast(device):
            rows = orthonormal(torch.stack([edit.weight for edit in group]))
            for edit, R in zip(group, rows.unbind(), strict=True):
                prepared[id(edit)] = edit.prepare(R)
    return prepared


def _state(parameter: Tensor) -> tuple:
    """Return what changes when a parameter does."""
    return parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version


def _is_whole(weight: Tensor) -> bool:
    """Say whether a parameter is here now: FSDP and ZeRO gather it when its own module runs."""
    return type(weight.data) is Tensor and weight.numel() > 0 and not hasattr(weight, "ds_id")
