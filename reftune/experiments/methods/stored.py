"""Files of a method that PEFT does not have: trained tensors, and what they belong to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from reftune.output_folder import write_atomically

DESCRIPTION, WEIGHTS = "method.json", "weights.safetensors"
FORMAT_VERSION = 1


def write(folder: Path, said: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
    """Write parameters by their names, and JSON that says what they are."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().contiguous() for name, p in parameters.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps({"format_version": FORMAT_VERSION, **said}, indent=2)
    write_atomically(folder / DESCRIPTION, text + "\n")


def read_description(folder: Path, method: str, options: Mapping[str, Any]) -> str:
    """Return the task type of a saved method.

    Raises:
        FileNotFoundError: none is there.
        ValueError: it is another method, or has other options.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(f'"{folder}" has no {name}: expected a saved {method}')
    said = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
    expected = {"format_version": FORMAT_VERSION, "method": method, "options": dict(options)}
    for name, value in expected.items():
        found = said.get(name) if isinstance(said, dict) else said
        if found != value:
            raise ValueError(f'"{folder}" has {name} {found!r}: expected {value!r}')
    return str(said.get("task_type"))


def read_into(folder: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """Read tensors into the parameters of their names.

    Raises:
        ValueError: the file is broken, or has other names, shapes or dtypes; nothing is changed.
    """
    file = Path(folder) / WEIGHTS
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f'"{file}" cannot be read: {error}') from error
    for name in sorted(parameters.keys() | tensors.keys()):
        sides = (parameters.get(name), tensors.get(name))
        stated = ["nothing" if t is None else f"{tuple(t.shape)} {t.dtype}" for t in sides]
        if stated[0] != stated[1]:
            raise ValueError(f'"{file}" has {stated[1]} for {name}: expected {stated[0]}')
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
