"""A ReFT and a LoRA on one model, trained together."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reftune.experiments.methods.attachment import (
    Attachment,
    attachment_of,
    find_head,
    head_parameters,
    loaded,
    record,
    take_off,
)
from reftune.experiments.methods.base_state import BaseState, undone_on_error
from reftune.experiments.methods.peft_method import (
    PeftMethod,
    biases,
    load_adapter,
    put_on,
    save_adapter,
)

# Name of the adapter and of its folder. PEFT wants none that is part of a prefix such as "lora_".
LORA = "low_rank"


@dataclass(frozen=True)
class ReftAndLora:
    """LoRA in the base model's weights, and around it a PEFT model with the ReFT and the head.

    Two PEFT models share the base model, as one has adapters of one method only. The inner one
    serves to save and to take off; the outer one is the attached model.

    Args:
        reft: the outer method.
        lora: the inner one.
    """

    reft: PeftMethod
    lora: PeftMethod

    def attach(self, model: Any, task_type: str) -> Any:
        """See `Method.attach`."""
        head = find_head(model, task_type)
        with undone_on_error(model) as state, _second_adapter():
            state.keep(biases(model))
            config: Any = self.lora.config(model)
            _leave_out(config, model, head)
            inner = put_on(model, config, "lora", LORA)
            # Else PEFT would take the two for adapters of one method.
            del model.peft_config
            saved = [*(self.reft.options.get("modules_to_save") or []), *head]
            config = self.reft.config(model, task_type=task_type, modules_to_save=saved or None)
            outer = put_on(model, config, "reft")
            outer.train(model.training)
            return _recorded(outer, inner, state, head)

    def count(self, attached: Any) -> int:
        return attachment_of(attached).count

    def save(self, attached: Any, folder: Path) -> None:
        """Write PEFT's files: those of the ReFT and the head, and below those of the LoRA."""
        inner = attachment_of(attached).inner
        save_adapter(attached, folder, lambda name: not _is_lora(name))
        save_adapter(inner, folder, _is_lora)

    def load(self, model: Any, folder: Path) -> Any:
        below = Path(folder) / LORA
        config, inner_config = self.reft.read_config(folder), self.lora.read_config(below)
        head = find_head(model, str(config.task_type))
        with undone_on_error(model) as state, _second_adapter():
            state.keep(biases(model))
            inner = load_adapter(model, inner_config, below, LORA)
            del model.peft_config
            outer = load_adapter(model, config, folder, other=_is_lora)
            return loaded(_recorded(outer, inner, state, head))

    def detach(self, attached: Any) -> Any:
        return take_off(attached)


def _is_lora(name: str) -> bool:
    return f".{LORA}." in name or name.endswith(f".{LORA}")


@contextmanager
def _second_adapter() -> Iterator[None]:
    """Silence what PEFT says of a second adapter, and of modules that are left out in vain."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are trying to modify a model with PEFT for a second")
        warnings.filterwarnings("ignore", "You have passed exclude_modules")
        yield


def _leave_out(config: Any, model: Any, head: list[str]) -> None:
    """Leave the head out of a LoRA that does not know that there is one."""
    if not head:
        return
    paths = [
        f"{name}{'.' * bool(path)}{path}"
        for name in head
        for path, _ in model.get_submodule(name).named_modules()
    ]
    given = config.exclude_modules or []
    if isinstance(given, str):
        config.exclude_modules = "|".join([f"({given})", *map(re.escape, paths)])
    else:
        config.exclude_modules = sorted({*given, *paths})


def _recorded(outer: Any, inner: Any, state: BaseState, head: list[str]) -> Any:
    model = outer.get_base_model()
    for name, parameter in model.named_parameters():
        if _is_lora(name):
            parameter.requires_grad_(True)
    of_head = head_parameters(model, head)
    known = {id(parameter) for parameter in of_head}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return record(outer, Attachment(model, state, trained, of_head, inner))
