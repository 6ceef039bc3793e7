"""What a method put on a model: what of it is trained, and how to take it off again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn

from reftune.experiments.methods.base_state import BaseState

TASK_TYPES = ("CAUSAL_LM", "SEQ_CLS")
RECORD = "_attachment"


@dataclass(frozen=True)
class Attachment:
    """Kept as an attribute of the attached model.

    Attributes:
        base: the base model.
        state: what it was.
        trained: the parameters that the method trains, without those of a classification head.
        head: those of the head.
        inner: the PEFT model of the other adapter, where there are two.
    """

    base: Any
    state: BaseState
    trained: Sequence[nn.Parameter]
    head: Sequence[nn.Parameter] = ()
    inner: Any = None

    @property
    def count(self) -> int:
        return sum(parameter.numel() for parameter in self.trained)


def record(attached: Any, attachment: Attachment) -> Any:
    """Return an attached model that knows what was put on it, for `attachment_of`."""
    setattr(attached, RECORD, attachment)
    return attached


def loaded(attached: Any) -> Any:
    """Return an attached model that is there to be used: in evaluation mode, nothing trainable."""
    return attached.eval().requires_grad_(False)


def attachment_of(attached: Any) -> Attachment:
    """Return what a method put on a model.

    Raises:
        ValueError: none did, or it was taken off.
    """
    attachment = vars(attached).get(RECORD)
    if attachment is None:
        kind = type(attached).__name__
        raise ValueError(f"{kind} has no method on it: expected what attach or load returned")
    return attachment


def take_off(attached: Any) -> Any:
    """Return the base model as it was.

    PEFT's `unload` is not asked: it leaves the trained head, and stops at one of several layers.

    Raises:
        ValueError: nothing is on it.
    """
    attachment = attachment_of(attached)
    vars(attached).pop(RECORD)
    attachment.state.restore()
    return attachment.base


def find_head(model: Any, task_type: str) -> list[str]:
    """Return the names of the modules that make up a classification head.

    They are the parts of the model beside its base model; none for a causal language model.

    Raises:
        ValueError: the model is not one for the task, or has adapters already.
    """
    if task_type not in TASK_TYPES:
        raise ValueError(f"task type {task_type!r}: expected one of {', '.join(TASK_TYPES)}")
    kind = type(model).__name__
    adapters = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    if RECORD in vars(model) or any(isinstance(module, adapters) for module in model.modules()):
        raise ValueError(f"{kind} has an adapter or a method on it: expected a model without")
    predicts_tokens = model.get_output_embeddings() is not None
    if task_type == "CAUSAL_LM":
        if not predicts_tokens:
            raise ValueError(f"{kind}: expected a causal language model for task type CAUSAL_LM")
        return []
    parts = [] if model.base_model is model else list(model.named_children())
    head = [
        name for name, part in parts if part is not model.base_model and list(part.parameters())
    ]
    if predicts_tokens or not head:
        raise ValueError(f"{kind}: expected a model with a classification head for SEQ_CLS")
    return head


def head_parameters(model: Any, head: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters of a classification head, under PEFT those of its trained copy too."""
    return [p for name in head for p in model.get_submodule(name).parameters()]
