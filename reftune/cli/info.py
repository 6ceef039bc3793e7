"""`reftune info`: what an adapter is, without loading its base model."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from reftune.cli.console import print_facts
from reftune.cli.loading import adapter_folder, read_adapter_config

EXAMPLES = """\
examples:
  reftune info emoji-adapter
  reftune info emoji-adapter --json | jq .parameters
  reftune info someone/their-adapter          # from the hub: its config and weights only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("adapter", metavar="ADAPTER", help="folder of an adapter, or a hub id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    print_facts(describe(adapter_folder(args.adapter)), args.json)
    return 0


def describe(folder: Path) -> dict[str, Any]:
    """Gather what ``adapter_config.json`` and the header of the weights tell."""
    config = read_adapter_config(folder)
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise ValueError(f'adapter "{folder}": expected {file.name} beside adapter_config.json')
    tensors = read_header(file)
    names = ("intervention", "r", "layers", "component", "positions", "tied", "decode", "dropout")
    return {
        "adapter": str(folder),
        "base_model": config.get("base_model_name_or_path"),
        **{name: config.get(name) for name in names},
        "hidden_size": config.get("hidden_size"),
        "base_layers": config.get("num_layers"),
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors.values()),
        "tensors": len(tensors),
        "dtypes": sorted({tensor["dtype"] for tensor in tensors.values()}),
        "size_bytes": sum(path.stat().st_size for path in folder.glob("adapter_*")),
    }


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Read names, dtypes and shapes of the tensors in a safetensors file, not the tensors.

    Raises:
        ValueError: the file is no safetensors file, or is torn.
    """
    whole = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        text = opened.read(min(length, whole))
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(f'"{file}" is not a safetensors file') from None
    if end != whole:
        raise ValueError(f'"{file}" is torn: it has {whole} bytes; expected {end}')
    return header
