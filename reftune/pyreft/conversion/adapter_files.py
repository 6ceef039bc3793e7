"""The two files of a reftune adapter: read, and held against each other, or written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reftune.architectures import Side
from reftune.config import ReftConfig
from reftune.interventions import INTERVENTIONS, options
from reftune.pyreft.checkpoints.pickles import read_json
from reftune.pyreft.checkpoints.writing import write_whole

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BASE = "base_model.model."
_EDIT = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<child>intervention|input_intervention)"
    r"\.reft_edits\.(?P<parameter>\w+)"
)
_SIDES: dict[str, Side] = {"intervention": "output", "input_intervention": "input"}
# The library's edits that have each matrix; all of those that pyreft has too have b and R or W2.
_WITH_SOURCE = ("loreft", "noreft", "direft", "direft_orthonormal")


@dataclass(frozen=True)
class Adapter:
    """What the files hold.

    Args:
        config: as stored.
        edits: by module path, from the base model, and side: the parameters by their names.
        head: further tensors, of `modules_to_save`, by their names in the base model.
    """

    config: ReftConfig
    edits: dict[tuple[str, Side], dict[str, Tensor]] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)


def read_adapter(folder: str | Path) -> Adapter:
    """Read an adapter without its base model.

    Raises:
        FileNotFoundError: there is no such folder, or no adapter in it.
        ValueError: it is of another method, torn, or its tensors are not those of its config.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f'adapter "{folder}": expected a folder with {name}')
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'"{folder / WEIGHTS}" is torn, or no safetensors file ({error})'
        ) from None
    adapter = Adapter(config)
    for name, tensor in tensors.items():
        match = _EDIT.fullmatch(name)
        if match:
            place = match["module"], _SIDES[match["child"]]
            adapter.edits.setdefault(place, {})[match["parameter"]] = tensor
        else:
            _check_head(name, config, folder)
            adapter.head[name.removeprefix(_BASE)] = tensor
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f'"{folder / WEIGHTS}": {name!r} has values that are not finite')
    if config.intervention in INTERVENTIONS:
        _check(adapter, folder)
    return adapter


def write_adapter(folder: str | Path, config: ReftConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write an adapter, whole or not at all.

    Args:
        folder: where; the files of an adapter in it are replaced.
        config: with what it was resolved to.
        tensors: by their names in PEFT's file.

    Raises:
        OSError: the folder cannot be written.
    """

    def fill(partial: Path) -> None:
        whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, partial / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(str(partial))

    write_whole(Path(folder), fill, last=CONFIG, stale=("adapter_model.*",))


def _read_config(file: Path) -> ReftConfig:
    fields = read_json(file)
    method = fields.get("peft_type") if isinstance(fields, dict) else None
    if method != "REFTUNE":
        raise ValueError(f'adapter "{file.parent}" is of the method {method}; expected REFTUNE')
    try:
        config: Any = ReftConfig.from_peft_type(**fields)
    except TypeError as error:
        raise ValueError(f'"{file}" holds a field that has no meaning ({error})') from None
    saved = config.modules_to_save
    if saved is not None and not (
        isinstance(saved, list) and all(isinstance(name, str) for name in saved)
    ):
        raise ValueError(f'"{file}": modules_to_save={saved!r}: expected a list of names')
    return config


def _check_head(name: str, config: ReftConfig, folder: Path) -> None:
    own = name.removeprefix(_BASE).split(".")
    if name.startswith(_BASE) and set(own) & set(config.modules_to_save or []):
        return
    raise ValueError(
        f'"{folder / WEIGHTS}" holds {name!r}: expected edits, and tensors of modules_to_save='
        f"{config.modules_to_save}"
    )


def _check(adapter: Adapter, folder: Path) -> None:
    """Hold the tensors against the config: names, places, shapes and dtype."""
    config: Any = adapter.config
    count = len(config.layers) if isinstance(config.layers, list) else 1
    if len(adapter.edits) != count:
        raise ValueError(
            f'"{folder / WEIGHTS}" holds edits of {len(adapter.edits)} modules: expected {count}, '
            f"as its config has layers={config.layers!r}"
        )
    layers = [re.findall(r"(?:^|\.)(\d+)(?:\.|$)", module)[:1] for module, _ in adapter.edits]
    found = sorted(int(number) for numbers in layers for number in numbers)
    if isinstance(config.layers, list) and found != sorted(config.layers):
        raise ValueError(
            f'"{folder / WEIGHTS}" holds edits of the layers {found}; expected '
            f"{sorted(config.layers)}, those of its config"
        )
    ranked = "rank" in options(config.intervention)
    source = {"source"} if config.intervention in _WITH_SOURCE else set()
    bias = set() if config.intervention == "steering_vector" else {"bias"}
    stack = (() if config.tied else (2,)) + ((len(config.heads),) if config.heads else ())
    for (module, _), parameters in adapter.edits.items():
        width = parameters["weight"].shape[-1] if "weight" in parameters else None
        residual = config.component in ("block_output", "block_input") and not config.heads
        if residual and config.hidden_size not in (None, width):
            raise ValueError(
                f'"{folder / WEIGHTS}": the edit of {module} is of width {width}; expected '
                f"{config.hidden_size}, the hidden_size of its config"
            )
        matrix, vector = ((config.r, width), (config.r,)) if ranked else ((width,), (width,))
        shapes = {
            "weight": stack + matrix,
            **dict.fromkeys(source, stack + matrix),
            **dict.fromkeys(bias, stack + vector),
        }
        given = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in parameters.values()}
        if given != shapes or dtypes != {config.dtype}:
            raise ValueError(
                f'"{folder / WEIGHTS}": the edit of {module} is {given} in {sorted(dtypes)}; '
                f"expected {shapes} in {config.dtype}, as its config says"
            )
