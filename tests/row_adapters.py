"""Adapters in the sub-folders of a folder, for the model of `tests.tiny_text.save_tiny_model`."""

from collections.abc import Sequence
from pathlib import Path

from tests.serving.served import write_adapter
from tests.tiny_text import byte_level, tiny_llama

CONFIGS = (
    {"layers": [0, 1], "r": 2, "positions": "l1"},
    {"layers": "all", "r": 4, "positions": "f2+l2"},
    {"layers": [1], "r": 3, "positions": "l3", "decode": "all"},
)


def save_adapters(folder: Path, names: Sequence[str], **shape: int) -> None:
    """Save adapters that change much, each of another kind, as `adapters/NAME`."""
    model = tiny_llama(byte_level(chat=True), **shape)
    for number, name in enumerate(names):
        write_adapter(folder / "adapters" / name, model, number, **CONFIGS[number % len(CONFIGS)])
