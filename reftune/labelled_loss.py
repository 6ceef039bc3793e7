"""Output head and loss of a training step at labelled tokens alone.

A prompt token is not predicted, so its logits cannot change the loss, and they are the largest
tensor of a training step: batch × prompt × vocabulary. The model's own code computes head, loss and
whatever is between them or added to them; it only gets fewer tokens. Where it is not known to be
the same loss, nothing is done.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils.generic import ModelOutput

from reftune.adapter_losses import adapter_losses, refuse_other_losses
from reftune.deferred_logits import Deferred, with_deferred_logits
from reftune.divided import is_divided
from reftune.groups import every_row
from reftune.hooking import autocast_of
from reftune.layer import InterventionLayer
from reftune.logits_tail import Tail
from reftune.planner import Planner

_everywhere: ContextVar[bool] = ContextVar("logits_everywhere", default=False)


@contextmanager
def logits_everywhere() -> Iterator[None]:
    """Let training steps compute the logits of all tokens, as the base model does."""
    token = _everywhere.set(True)
    try:
        yield
    finally:
        _everywhere.reset(token)


class LabelledLoss:
    """Watches the forward passes of a planner's root, and narrows those that train on labels.

    It leaves with the planner: it is one of the planner's handles.

    Attributes:
        _step: the running forward pass, if it is narrowed.
    """

    def __init__(self, planner: Planner):
        self.planner = planner
        self._step: _Step | None = None
        root = planner.root
        self._arguments = list(inspect.signature(type(root).forward).parameters)[1:]
        self._handles = [
            root.register_forward_pre_hook(self._enter, with_kwargs=True),
            # Before other people's hooks, which expect logits of all tokens.
            root.register_forward_hook(self._leave, always_call=True, prepend=True),
        ]
        planner.handles.append(self)

    def remove(self) -> None:
        """Take from the model what was put there."""
        self._finish()
        for handle in self._handles:
            handle.remove()

    def _enter(self, root: Any, args: tuple, kwargs: dict) -> None:
        planner = self.planner
        training = root.training and torch.is_grad_enabled() and planner.enabled
        own_losses = training and planner.adapter_names is not None
        if torch.compiler.is_compiling() and not own_losses:
            return
        self._finish()  # an interrupted forward pass may have called no hooks
        planner.losses = {}
        if not (own_losses or (training and planner.planned())):
            return
        inputs = dict(zip(self._arguments, args, strict=False)) | kwargs
        if own_losses:
            refuse_other_losses(root, inputs, narrows(root, inputs))
        elif not narrows(root, inputs):
            return
        step = _Step(root, inputs["labels"], planner)
        if own_losses or step.index.numel():
            self._step = step
            step.begin()

    def _leave(self, root: nn.Module, args: tuple, output: Any) -> Any:
        if torch.compiler.is_compiling() or self._step is None:
            return None
        step = self._step
        self._finish()
        return None if output is None else step.widened(output)

    def _finish(self) -> None:
        if self._step is not None:
            self._step.end()
            self._step = None


class _Step:
    """One narrowed forward pass.

    Args:
        root: the model.
        labels: `(batch, seq)`.
        planner: if it has an adapter per row, the loss is the sum of theirs.

    Attributes:
        index: `(tokens,)`, the places of tokens that predict a label, in all rows laid end to end.
        targets: `(1, tokens)`, these labels.
        hidden: `(batch, seq, width)`, what goes into the head, once it has been narrowed.
        logits: `(1, tokens, vocabulary)`, what goes into the loss, once it has been called.
    """

    def __init__(self, root: Any, labels: Tensor, planner: Planner):
        self.root, self.labels, self.planner = root, labels, planner
        self.head: nn.Module = root.get_output_embeddings()
        names = planner.adapter_names
        self.names = None if names is None else every_row(names, len(labels))
        predicts = nn.functional.pad(labels[:, 1:] != -100, (0, 1))
        self.index = predicts.flatten().nonzero()[:, 0]
        self.targets = labels.flatten()[self.index + 1][None]
        self.hidden: Tensor | None = None
        self.logits: Tensor | None = None
        self._tail = Tail()

    def begin(self) -> None:
        self._handles = [
            self.head.register_forward_pre_hook(self._narrow),
            self.head.register_forward_hook(self._after_head),
        ]
        self._own_loss = vars(self.root).get("_loss_function")
        self._loss = self.root.loss_function
        self.root.loss_function = self._labelled

    def end(self) -> None:
        """Leave the model as it was."""
        self._tail.end()
        for handle in self._handles:
            handle.remove()
        if self._own_loss is None:
            del self.root._loss_function
        else:
            self.root.loss_function = self._own_loss

    def widened(self, output: Any) -> Any:
        """Return what the model gave with logits of all tokens.

        Raises:
            RuntimeError: the model used the labelled tokens' logits for something unknown.
        """
        if self.hidden is None:
            return output
        logits = output.get("logits") if isinstance(output, ModelOutput) else None
        if self.logits is None or logits is None or logits.shape != self.logits.shape:
            raise self._unknown()
        replay = self._tail.replay(self.logits)
        # A cast or a move that was put around the model's forward is repeated on all logits.
        like = {"dtype": logits.dtype, "device": logits.device}
        head, hidden, autocast = self.head, self.hidden, self._autocast

        def everywhere() -> Tensor:
            with torch.enable_grad(), torch.autocast(**autocast):
                return replay(head(hidden)).to(**like)

        shape = torch.Size((*self.labels.shape, logits.shape[-1]))
        return with_deferred_logits(output, Deferred(everywhere, shape, **like))

    def _narrow(self, head: nn.Module, args: tuple) -> tuple | None:
        hidden = args[0] if args else None
        # Some models put other inputs before the text; some call the head again.
        if self.hidden is not None or hidden is None or hidden.shape[:-1] != self.labels.shape:
            return None
        self.hidden = hidden
        self._autocast = autocast_of(hidden.device)
        chosen = hidden.flatten(0, 1).index_select(0, self.index.to(hidden.device))
        return (chosen[None], *args[1:])

    def _after_head(self, head: nn.Module, args: tuple, logits: Tensor) -> None:
        if self.hidden is not None:
            self._tail.begin(logits)

    def _labelled(self, logits: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the model's loss, of the labelled tokens if these are its logits.

        Raises:
            RuntimeError: the logits of the labelled tokens do not come with the labels.
        """
        self._tail.end()
        if self.hidden is None or logits.shape[:-1] == self.labels.shape:
            return self._loss(logits, labels, *args, **kwargs)
        own_labels = labels is not None and labels.shape == self.labels.shape
        if not own_labels or logits.shape[:-1] != self.targets.shape:
            raise self._unknown()
        self.logits = logits
        if self.names is not None:
            rows, adapters = self.index // self.labels.shape[1], self.planner.where
            loss, self.planner.losses = adapter_losses(
                logits[0], self.targets[0], rows, self.names, adapters
            )
            return loss
        return self._loss(logits, None, *args, **{**kwargs, "shift_labels": self.targets})

    def _unknown(self) -> RuntimeError:
        return RuntimeError(
            f"{type(self.root).__name__} does not compute its loss from its logits and labels "
            "alone: train it within reftune.labelled_loss.logits_everywhere()"
        )


def narrows(root: Any, inputs: dict[str, Any]) -> bool:
    """Say whether a training step is one whose logits and loss are computed at its labels alone."""
    # A graph cannot have as many tokens as there are labels.
    if torch.compiler.is_compiling() or _everywhere.get() or not _has_labels_alone(inputs):
        return False
    head = root.get_output_embeddings()
    return head is not None and _is_plain(root, head, inputs)


def _has_labels_alone(inputs: dict[str, Any]) -> bool:
    """Say whether there are labels `(batch, seq)`, and nothing else about loss or logits."""
    labels = inputs.get("labels")
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.device.type == "meta":
        return False
    keep = inputs.get("logits_to_keep")
    said = ("shift_labels", "ignore_index")
    if isinstance(keep, Tensor) or keep or any(inputs.get(name) is not None for name in said):
        return False
    # Nor has a CUDA graph as many tokens as there are labels.
    return not (labels.is_cuda and torch.cuda.is_current_stream_capturing())


def _is_plain(root: Any, head: nn.Module, inputs: dict[str, Any]) -> bool:
    """Say whether a model's loss is known to be that of the labelled tokens alone."""
    code = getattr(inspect.unwrap(root.forward), "__code__", None)
    if code is None or "loss_function" not in code.co_names:
        return False
    # A model that keeps the logits of some tokens on request treats all tokens alike.
    if "logits_to_keep" not in code.co_varnames or "shift_labels" in code.co_varnames:
        return False
    as_output = inputs.get("return_dict")
    if not (root.config.return_dict if as_output is None else as_output):
        return False
    edited = any(isinstance(module, InterventionLayer) for module in head.modules())
    compiled = head._compiled_call_impl is not None  # its graph would not call hooks
    # FSDP reads all that a model gives, when the head has been put away.
    known = root.loss_function is ForCausalLMLoss and not is_divided(root, head)
    return known and not edited and not compiled
