"""Methods that PEFT does not have: they train parts of the base model, or modules put on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from reftune.experiments.methods import stored
from reftune.experiments.methods.attachment import (
    Attachment,
    attachment_of,
    find_head,
    head_parameters,
    loaded,
    record,
    take_off,
)
from reftune.experiments.methods.base_state import undone_on_error


@dataclass(frozen=True)
class OwnMethod:
    """A method whose attached model is the base model; see `Method`.

    Args:
        name: of the method.
        choose: puts on a model what the method needs, if anything, and returns the parameters that
            it trains, those of a classification head left out or not. Called with the model and
            the names of the head's modules; raises ValueError if the method does not fit.
        options: what `choose` was made from, to be saved.
    """

    name: str
    choose: Callable[[Any, list[str]], list[nn.Parameter]]
    options: dict[str, Any] = field(default_factory=dict)

    def attach(self, model: Any, task_type: str) -> Any:
        """Train the head too, if there is one; see `Method.attach`."""
        head = find_head(model, task_type)
        with undone_on_error(model) as state:
            chosen = self.choose(model, head)
            of_head = head_parameters(model, head)
            known = {id(parameter) for parameter in of_head}
            trained = [parameter for parameter in chosen if id(parameter) not in known]
            model.requires_grad_(False)
            for parameter in [*trained, *of_head]:
                parameter.requires_grad_(True)
            state.keep([*trained, *of_head])
            return record(model, Attachment(model, state, trained, of_head))

    def count(self, attached: Any) -> int:
        return attachment_of(attached).count

    def save(self, attached: Any, folder: Path) -> None:
        """Write `weights.safetensors` and `method.json`."""
        task_type = "SEQ_CLS" if attachment_of(attached).head else "CAUSAL_LM"
        said = {"method": self.name, "options": self.options, "task_type": task_type}
        stored.write(folder, said, _trained(attached))

    def load(self, model: Any, folder: Path) -> Any:
        task_type = stored.read_description(folder, self.name, self.options)
        attached = self.attach(model, task_type)
        try:
            stored.read_into(folder, _trained(attached))
        except ValueError:
            self.detach(attached)
            raise
        return loaded(attached)

    def detach(self, attached: Any) -> Any:
        return take_off(attached)


def _trained(attached: Any) -> dict[str, nn.Parameter]:
    attachment = attachment_of(attached)
    known = {id(parameter) for parameter in [*attachment.trained, *attachment.head]}
    return {name: p for name, p in attached.named_parameters() if id(p) in known}


def every_parameter(model: Any, head: list[str]) -> list[nn.Parameter]:
    """Choose all: full finetuning."""
    return list(model.parameters())


def every_bias(model: Any, head: list[str]) -> list[nn.Parameter]:
    """Choose the biases, of linear layers and of norms: BitFit, arXiv 2106.10199.

    Raises:
        ValueError: there is none beside those of a classification head.
    """
    of_head = {id(parameter) for parameter in head_parameters(model, head)}
    named = model.named_parameters()
    biases = [p for name, p in named if name.endswith("bias") and id(p) not in of_head]
    if not biases:
        raise ValueError(
            f"method bitfit on {type(model).__name__}: expected a model with biases, it has none"
        )
    return biases


def nothing(model: Any, head: list[str]) -> list[nn.Parameter]:
    """Choose nothing, so that the head alone is trained: a linear probe, or what the head is.

    Raises:
        ValueError: there is no classification head.
    """
    if not head:
        raise ValueError(
            f"method probe on {type(model).__name__}: expected a classification head (SEQ_CLS); "
            "the output head of a language model is no layer of its own, but mostly its embeddings"
        )
    return []
