"""Watches the training steps of a model, and lets them compute only what an edit can change."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reftune.deferred_logits import Deferred
from reftune.hooking import autocast_of
from reftune.layer import InterventionLayer
from reftune.planner import Planner
from reftune.reuse.conditions import is_plain_step
from reftune.reuse.frozen import Frozen
from reftune.reuse.skipping import skipped
from reftune.reuse.step import Shape, continued, hidden_at
from reftune.reuse.store import Store
from reftune.reuse.switch import is_off, room, without_reuse

LOG = logging.getLogger(__name__)

# What a step over the last tokens of every row is given anew.
REPLACED = {"input_ids", "attention_mask", "labels", "use_cache"}
# How far the losses of the first step, with reuse and without, may lie apart, relatively. GPUs
# compute in float32 with less than its precision, if they are allowed to.
TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2


@dataclass(frozen=True)
class _Step:
    """A forward pass that computes less.

    Args:
        args, kwargs: what the model is called with.
        shape: which tokens are computed.
        below: the output that the layers below the edits give, or `None` if there are none.
    """

    args: tuple
    kwargs: dict[str, Any]
    shape: Shape
    below: Any


class Reuse:
    """Reuses what is the same at every training step of a planner's root.

    It leaves with the planner: it is one of the planner's handles. The first step that it changes
    is computed both ways; if the losses differ, it stays off.

    Attributes:
        reason: why it is off; `None` while it is on, or before the first training step.
        frozen: what is reused; `None` before the first training step.
    """

    def __init__(self, planner: Planner):
        self.planner = planner
        self.root: Any = planner.root
        self.reason: str | None = None
        self.frozen: Frozen | None = None
        self._store: Store | None = None
        self._proven = False
        self._running = ExitStack()
        self._asked: tuple[dict, list[str] | None] | None = None
        self._arguments = list(inspect.signature(type(self.root).forward).parameters)[1:]
        root = planner.root
        self._handles = [
            # Before the planner, which reads what this leaves.
            root.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True),
            root.register_forward_hook(self._leave, always_call=True, prepend=True),
        ]
        planner.handles.append(self)

    def remove(self) -> None:
        """Take from the model what was put there."""
        self._finish()
        for handle in self._handles:
            handle.remove()

    def __getstate__(self) -> dict:
        # A copy of the model begins anew.
        fresh = {"frozen": None, "_store": None, "_running": ExitStack(), "_asked": None}
        return vars(self) | fresh

    def _enter(self, root: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if torch.compiler.is_compiling() or is_off():
            return None
        self._finish()  # an interrupted forward pass may have called no hooks
        training = root.training and torch.is_grad_enabled()
        if not (training and self.planner.enabled and self.planner.planned()):
            return None
        inputs = dict(zip(self._arguments, args, strict=False)) | kwargs
        if not is_plain_step(root, inputs):
            return None
        frozen = self._look()
        if self.reason is not None:
            return None
        try:
            step = self._step(frozen, inputs, args, kwargs)
            if step is None or not (self._proven or self._prove(frozen, step, inputs)):
                return None
        except Exception as error:
            if self._proven:
                raise
            # Of a model that nobody has tried, it is not known what it does with a cache.
            self._stop(f"{type(error).__name__}: {error}")
            return None
        self._running.enter_context(self._skipping(frozen, step))
        self._asked = inputs, self.planner.adapter_names
        return step.args, step.kwargs

    def _look(self) -> Frozen:
        """Look at the model, and begin anew if it is not what it was at the last step."""
        found = Frozen.of(self.planner, self.frozen)
        if self._store is None or self._store.room != room():
            self._store, self.frozen = Store(room()), None
        if self.frozen is None or found.known != self.frozen.known:
            self._store.clear()
            found.store = self._store
            self.frozen, self._proven = found, False
            self.reason = found.why_not()
            if self.reason is not None:
                LOG.info("nothing is reused in training: %s", self.reason)
        self.frozen.edited = found.edited  # others may leave as much alone
        return self.frozen

    def _step(self, frozen: Frozen, inputs: dict, args: tuple, kwargs: dict) -> _Step | None:
        """Return what the model is called with instead, or `None` if it would gain too little."""
        ids = inputs["input_ids"]
        rows = frozen.rows(ids, inputs.get("attention_mask"), inputs["labels"])
        if rows is None:
            return None
        shape = Shape.of(rows, ids.shape[1])
        if not frozen.is_worth(shape, ids.shape[1]):
            return None
        parts, starts = frozen.parts(rows), [row.start for row in rows]
        if shape.prefix:
            given = continued(rows, parts, shape, frozen.below, ids.device)
            if "position_ids" not in self._arguments:
                del given["position_ids"]
            args = ()
            kwargs = {name: inputs[name] for name in inputs.keys() - REPLACED} | given
            starts = [shape.queries - len(row) for row in rows]
        output = None
        if frozen.below:
            hidden = hidden_at(starts, rows, parts, shape.queries)
            # A checkpointed layer has gradients only if what goes into it has.
            hidden.requires_grad_(frozen.is_checkpointing)
            output = frozen.output(hidden)
        return _Step(args, kwargs, shape, output)

    def _skipping(self, frozen: Frozen, step: _Step) -> Any:
        return skipped(frozen.layers[: frozen.below], lambda: step.below)

    def _prove(self, frozen: Frozen, step: _Step, inputs: dict) -> bool:
        """Compute a step both ways, without the edits' dropout, and say whether they agree."""
        with without_reuse(), _without_dropout(self.root):
            plain = self.root(**inputs).loss.detach()
            with self._skipping(frozen, step):
                ours = self.root(*step.args, **step.kwargs).loss.detach()
        autocast = autocast_of(plain.device)["enabled"]
        half = autocast or self.root.dtype in (torch.float16, torch.bfloat16)
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        if not torch.allclose(ours, plain, rtol=tolerance, atol=tolerance):
            self._stop(f"the loss would be {float(ours)} instead of {float(plain)}")
            return False
        self._proven = True
        LOG.info(
            "reused in training: %d of %d layers, and %d of %d tokens in the others",
            frozen.below,
            len(frozen.layers),
            step.shape.prefix,
            step.shape.prefix + step.shape.queries,
        )
        return True

    def _stop(self, reason: str, level: int = logging.WARNING) -> None:
        self.reason = reason
        if self._store is not None:
            self._store.clear()
        LOG.log(level, "nothing is reused in training: %s", reason)

    def _leave(self, root: nn.Module, args: tuple, output: Any) -> None:
        if torch.compiler.is_compiling() or is_off():
            return
        asked = self._asked
        self._finish()
        if output is not None and asked is not None:
            self._widen(output, *asked)

    def _widen(self, output: Any, inputs: dict, names: list[str] | None) -> None:
        """Let all logits be computed, as without reuse, if somebody reads them."""
        narrow = vars(output)["logits"]
        shape = torch.Size((*inputs["input_ids"].shape, narrow.shape[-1]))
        autocast = autocast_of(narrow.device)
        planner = self.planner

        def everywhere() -> Tensor:
            self._stop("the logits of training steps are read", logging.INFO)
            before, planner.adapter_names = planner.adapter_names, names
            try:
                with torch.enable_grad(), torch.autocast(**autocast), without_reuse():
                    return self.root(**inputs).logits
            finally:
                planner.adapter_names = before

        output.logits = Deferred(everywhere, shape, narrow.dtype, narrow.device)

    def _finish(self) -> None:
        self._running.close()
        self._asked = None


@contextmanager
def _without_dropout(root: nn.Module) -> Iterator[None]:
    edits = [module for module in root.modules() if isinstance(module, InterventionLayer)]
    before = [layer.training for layer in edits]
    try:
        for layer in edits:
            layer.training = False
        yield
    finally:
        for layer, training in zip(edits, before, strict=True):
            layer.training = training
