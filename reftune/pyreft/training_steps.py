"""One batch through a `ReftModel`, as pyreft's trainers do it (pyreft 0.1.0, `reft_trainer.py`)."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from reftune.pyreft.data.collators import LOCATIONS

# What Trainer has come to pass to methods that classes written for pyreft override.
_PASSED_SINCE = {
    "compute_loss": "num_items_in_batch",
    "training_step": "num_items_in_batch",
    "log": "start_time",
}


def run_edited(intervenable: nn.Module, inputs: Mapping[str, Any], labels: Tensor | None) -> Any:
    """Return a `ReftModel`'s edited outputs of a batch, or the only ones without interventions.

    Args:
        intervenable: the `ReftModel`, in whatever a distributed training puts around it.
        inputs: see `reftune.pyreft.trainers.ReftTrainer`.
        labels: those that the model gets.
    """
    locations, subspaces = inputs.get(LOCATIONS), inputs.get("subspaces")
    places: Any = None
    if locations is not None:
        places = _by_intervention(locations) if locations.dim() == 3 else 0
    original, edited = intervenable(
        {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs},
        unit_locations=None if locations is None else {"sources->base": (None, places)},
        labels=labels,
        subspaces=None
        if subspaces is None
        else [one.tolist() for one in _by_intervention(subspaces)],
    )
    return original if edited is None else edited


def _by_intervention(batch: Tensor) -> list:
    """Turn `(batch, interventions, n)` into a list of `(batch, n)`, one for each intervention."""
    return list(batch.permute(1, 0, 2).cpu())


def classification_loss(problem: str | None, logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the loss of a classification or a regression.

    The labels of a regression are taken in the dtype of the logits. pyreft rounds them to bfloat16.

    Args:
        problem: `problem_type` of the model's config; if `None`, one label is a regression, whole
            numbers are classes, and anything else is many labels.
        logits: `(batch, count)`.
        labels: `(batch,)`, or `(batch, count)`.
        count: number of labels.
    """
    if problem is None:
        whole = not (labels.is_floating_point() or labels.dim() == logits.dim() > 1 < count)
        several = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if count == 1 else several
    if problem == "single_label_classification":
        return functional.cross_entropy(logits.view(-1, count), labels.view(-1))
    labels = labels.to(logits.dtype).view_as(logits)
    if problem == "regression":
        return functional.mse_loss(logits, labels)
    return functional.binary_cross_entropy_with_logits(logits, labels)


def accept_less(kind: type) -> None:
    """Let the methods that a class overrides go without what Trainer has come to pass to them."""
    for name, argument in _PASSED_SINCE.items():
        own = vars(kind).get(name)
        if inspect.isfunction(own):
            setattr(kind, name, _without(own, argument))


def _without(function: Callable, argument: str) -> Callable:
    taken = inspect.signature(function).parameters
    kinds = {one.kind for one in taken.values()}
    if argument in taken or inspect.Parameter.VAR_KEYWORD in kinds:
        return function
    places = sum(one.kind is not one.KEYWORD_ONLY for one in taken.values())

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop(argument, None)
        return function(*args[:places], **kwargs)

    return call
