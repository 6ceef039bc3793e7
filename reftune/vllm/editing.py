"""The hooks on vLLM's layers, and the operator that they call.

A layer of vLLM gives the residual stream as one tensor, or as two whose sum it is. An edited state
is written to the first, and the second made zero there, so that the sum is the state to the bit.

The hooks call an operator of torch's, `reftune::edit`. Compilers do not look into it, so that one
compiled graph serves every step and every adapter; what it does is looked up when it runs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reftune.serving.adapters import ServedAdapter
from reftune.serving.bank import Bank
from reftune.serving.editing import _bounded as bounded
from reftune.serving.slots import Slots
from reftune.serving.step import PARTS, Segments
from reftune.sites import Site
from reftune.vllm.rounds import Round, Run, plan_rounds

_LIBRARY = torch.library.Library("reftune", "DEF")
_LIBRARY.define("edit(Tensor(a!) hidden, Tensor(b!)? residual, str path) -> ()")
_current: "StepEditing | None" = None  # in whose step the forward pass runs; one at a time


class StepEditing:
    """Edits the steps of one worker.

    Args:
        model: vLLM's.
        sites: that are hooked; the outputs of layers.
        slots: how many adapters' edits are on the device at once.
        device: of the model.

    Raises:
        ValueError: the model has no module of a site.
    """

    def __init__(
        self, model: nn.Module, sites: Sequence[Site], slots: int, device: torch.device
    ) -> None:
        self.device, self._sites = device, sites
        self.recording: dict[str, Tensor] | None = None
        self.empty(slots)
        self._rounds: tuple[Round, ...] | None = None
        self._passed: set[str] = set()
        for path in self._banks:
            try:
                layer = model.get_submodule(path)
            except AttributeError as error:
                raise ValueError(
                    f"vLLM's {type(model).__name__} has no module {path!r}: expected layers where "
                    "transformers has them"
                ) from error
            layer.register_forward_hook(_hook(path))

    def empty(self, slots: int) -> None:
        """Begin anew, with so many slots and nothing in them."""
        self.slots = Slots(slots)
        self._banks = {
            site.module: tuple(Bank(slots + 1, site.width, self.device) for _ in PARTS)
            for site in self._sites
        }

    def begin(self) -> None:
        """Expect a step: its plan, and then its forward pass."""
        global _current
        _current, self._rounds, self._passed = self, None, set()

    def plan(self, runs: Sequence[Run]) -> None:
        """Set what the forward pass edits."""
        self._rounds = plan_rounds(runs, self.slots, self.device)

    def end(self, tokens: int) -> None:
        """Hold what was done against what was to be done.

        Args:
            tokens: of the step; without any there is no forward pass.

        Raises:
            RuntimeError: there was no plan, or a layer was passed by that had something to edit.
        """
        self.leave()
        if tokens and self._rounds is None:
            raise RuntimeError(
                "a step of vLLM ran without a plan: expected its runner to call what "
                "reftune.vllm.runners watches"
            )
        if self._rounds and (missed := self._banks.keys() - self._passed):
            raise RuntimeError(
                f"nothing went through {', '.join(sorted(missed))} in a step that was to be edited "
                "there: expected every step to run the operator reftune::edit, outside of recorded "
                "graphs"
            )

    def leave(self) -> None:
        """Edit nothing any more, whatever runs."""
        global _current
        _current = None

    def edit(self, path: str, hidden: Tensor, residual: Tensor | None) -> None:
        """Edit what comes out of a layer, in place.

        Args:
            path: of the layer.
            hidden, residual: `(..., width)`; the states are their sum.
        """
        self._passed.add(path)
        hidden = hidden.view(-1, hidden.shape[-1])
        residual = None if residual is None else residual.view(-1, residual.shape[-1])
        if self.recording is not None:
            self.recording[path] = hidden.clone() if residual is None else hidden + residual
        for one in self._rounds or ():
            for slot, adapter in one.writes:
                self._write(path, slot, adapter)
            for segments in one.segments:
                bank = self._banks[path][segments.part]
                if segments.slots & bank.used:
                    _edit_segments(bank, segments, hidden, residual)

    def _write(self, path: str, slot: int, adapter: ServedAdapter) -> None:
        edits = {site.module: of for site, of in adapter.edits.items()}.get(path, ())
        for part, bank in zip(PARTS, self._banks[path], strict=True):
            if part < len(edits):
                bank.write(slot, edits[part])
            else:
                bank.clear(slot)


def _edit_segments(bank: Bank, segments: Segments, hidden: Tensor, residual: Tensor | None) -> None:
    before = hidden.index_select(0, segments.index)
    if residual is not None:
        before = before + residual.index_select(0, segments.index)
    runs = before.float().view(len(segments.slot), segments.longest, -1)
    after = bank.edit(runs, segments.slot, segments.kind).flatten(0, 1)
    real = bounded(after.index_select(0, segments.real), hidden.dtype)
    hidden.index_copy_(0, segments.target, real)
    if residual is not None:
        residual.index_fill_(0, segments.target, 0)


def _hook(path: str) -> Callable[[nn.Module, tuple, Any], None]:
    def hook(module: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(output, Tensor):
            torch.ops.reftune.edit(output, None, path)
            return
        if not (isinstance(output, tuple) and len(output) == 2):
            raise TypeError(
                f"{type(module).__name__} of vLLM gave {type(output).__name__}: expected hidden "
                "states, or two tensors whose sum they are"
            )
        torch.ops.reftune.edit(output[0], output[1], path)

    return hook


def _run(hidden: Tensor, residual: Tensor | None, path: str) -> None:
    if _current is not None:
        _current.edit(path, hidden, residual)


def _run_nothing(hidden: Tensor, residual: Tensor | None, path: str) -> None:
    """Stand for the operator while a graph is traced: it has no output."""


_LIBRARY.impl("edit", _run, "CompositeExplicitAutograd")
_LIBRARY._register_fake("edit", _run_nothing)
