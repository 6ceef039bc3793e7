"""Methods that PEFT has, ReFT among them: a config class and options."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import nn

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

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What PEFT or the method itself says of an adapter.
_NOT_OPTIONS = {one.name for one in fields(PeftConfig)} | {"format_version"}


def no_defaults(model: Any) -> dict[str, Any]:
    return {}


def fits_all(model: Any, task_type: str) -> None:
    """Raise nothing: PEFT says what does not fit."""


@dataclass(frozen=True)
class PeftMethod:
    """One of PEFT's methods; see `reftune.experiments.methods.method.Method`.

    Args:
        name: of the method.
        config_class: whose fields the options are.
        options: fields of the config.
        fixed: fields that make the method what it is, and are no options.
        defaults: returns fields that hold where neither of them says anything, for a model.
        check: raises ValueError if the method does not fit a model and task type.

    Raises:
        ValueError: an option is unknown or has no meaning.
    """

    name: str
    config_class: type[PeftConfig]
    options: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    defaults: Callable[[Any], dict[str, Any]] = no_defaults
    check: Callable[[Any, str], None] = fits_all

    def __post_init__(self) -> None:
        known = {one.name for one in fields(self.config_class) if one.init}
        known -= _NOT_OPTIONS | self.fixed.keys()
        unknown = sorted(self.options.keys() - known)
        if unknown:
            raise ValueError(
                f"method {self.name}: unknown option {', '.join(unknown)}: expected some of "
                f"{', '.join(sorted(known))}"
            )
        try:
            self.config_class(**copy.deepcopy(self.options), **self.fixed)
        except (ValueError, TypeError) as error:
            raise ValueError(f"method {self.name}, options {self.options}: {error}") from error

    def config(self, model: Any, **more: Any) -> PeftConfig:
        """Return a new config for a model."""
        given = {**self.defaults(model), **copy.deepcopy(self.options), **self.fixed, **more}
        return self.config_class(**given)

    def attach(self, model: Any, task_type: str) -> Any:
        """Return a PEFT model around a base model; see `Method.attach`."""
        head = find_head(model, task_type)
        self.check(model, task_type)
        saved = [*(self.options.get("modules_to_save") or []), *head]
        with undone_on_error(model) as state:
            state.keep(biases(model))
            config = self.config(model, task_type=task_type, modules_to_save=saved or None)
            attached = put_on(model, config, self.name)
            attached.train(model.training)
            return _recorded(attached, model, state, head)

    def count(self, attached: Any) -> int:
        return attachment_of(attached).count

    def save(self, attached: Any, folder: Path) -> None:
        """Write PEFT's two files and its model card."""
        attachment_of(attached)
        save_adapter(attached, folder, lambda name: True)

    def load(self, model: Any, folder: Path) -> Any:
        config = self.read_config(folder)
        head = find_head(model, str(config.task_type))
        with undone_on_error(model) as state:
            state.keep(biases(model))
            attached = load_adapter(model, config, folder)
            return loaded(_recorded(attached, model, state, head))

    def read_config(self, folder: Path) -> Any:
        """Return the config of a saved adapter.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is one of another method.
        """
        for name in (CONFIG, WEIGHTS):
            if not (Path(folder) / name).is_file():
                raise FileNotFoundError(f'"{folder}" has no {name}: expected a saved {self.name}')
        config = PeftConfig.from_pretrained(str(folder))
        differ = [name for name, value in self.fixed.items() if getattr(config, name, 0) != value]
        if type(config) is not self.config_class or differ:
            kind = " ".join([type(config).__name__, *(f"without its {name}" for name in differ)])
            raise ValueError(f'"{folder}" holds a {kind}: expected what method {self.name} saved')
        return config

    def detach(self, attached: Any) -> Any:
        return take_off(attached)


def put_on(model: Any, config: PeftConfig, method: str, adapter_name: str = "default") -> Any:
    """Return a PEFT model with a new adapter.

    Raises:
        ValueError: the config does not fit the model.
    """
    try:
        with _norms_are_supported():
            return get_peft_model(model, config, adapter_name)
    except (ValueError, TypeError) as error:
        raise ValueError(f"method {method} on {type(model).__name__}: {error}") from error


def save_adapter(attached: Any, folder: Path, own: Callable[[str], bool]) -> None:
    """Write those tensors of an adapter whose names are its own."""
    tensors = {name: tensor for name, tensor in attached.state_dict().items() if own(name)}
    # The embeddings are the base model's; PEFT would ask its hub whether they have grown.
    attached.save_pretrained(str(folder), state_dict=tensors, save_embedding_layers=False)


def load_adapter(
    model: Any,
    config: Any,
    folder: Path,
    adapter_name: str = "default",
    other: Callable[[str], bool] | None = None,
) -> Any:
    """Return a PEFT model with a saved adapter, trainable where PEFT can have it so.

    Args:
        other: says of a tensor's name whether it is another adapter's.

    Raises:
        ValueError: its tensors are not those of the model's adapter.
    """
    trainable = not config.is_prompt_learning
    try:
        with _norms_are_supported():
            attached: Any = PeftModel.from_pretrained(
                model, str(folder), adapter_name, is_trainable=trainable, config=config
            )
    except (RuntimeError, SafetensorError) as error:  # torch's word for another shape
        raise ValueError(f'"{folder}" does not fit {type(model).__name__}: {error}') from error
    tensors = {n: t for n, t in attached.state_dict().items() if other is None or not other(n)}
    own = get_peft_model_state_dict(
        attached, tensors, adapter_name, save_embedding_layers=False
    ).keys()
    with safe_open(Path(folder) / WEIGHTS, "pt") as file:
        stored = set(file.keys())
    if own != stored:
        raise ValueError(
            f'"{folder}" lacks {sorted(own - stored)} and has {sorted(stored - own)} too: expected '
            f"the tensors of an adapter for {type(model).__name__}"
        )
    return attached


@contextmanager
def _norms_are_supported() -> Iterator[None]:
    """Silence that PEFT does not know of which size the output of a norm is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        yield


def biases(model: Any) -> list[nn.Parameter]:
    """Return what LoRA's option `bias` trains in the base model itself."""
    return [p for name, p in model.named_parameters() if name.endswith("bias")]


def _recorded(attached: Any, model: Any, state: BaseState, head: list[str]) -> Any:
    of_head = head_parameters(model, head)
    known = {id(parameter) for parameter in of_head}
    # A prompt that was loaded is not trainable.
    trained = [
        p
        for name, p in attached.named_parameters()
        if (p.requires_grad or name.startswith("prompt_encoder.")) and id(p) not in known
    ]
    return record(attached, Attachment(model, state, trained, of_head))
