"""What tells an adapter from others, the same whether it is attached or in its folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from peft import PeftConfig
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import Tensor

# What says nothing of the edits: it changes when an adapter is loaded or moved.
ELSEWHERE = ("inference_mode", "base_model_name_or_path", "revision", "peft_version")


def adapter_digest(config: PeftConfig, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of an adapter's settings and tensors.

    Args:
        tensors: under the names that they have in the adapter's file.
    """
    said = {name: value for name, value in config.to_dict().items() if name not in ELSEWHERE}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=_listed).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the same of an adapter that was saved."""
    config = PeftConfig.from_pretrained(str(folder))
    return adapter_digest(config, load_file(folder / SAFETENSORS_WEIGHTS_NAME))


def _listed(value: object) -> object:
    return sorted(value) if isinstance(value, set) else str(value)
