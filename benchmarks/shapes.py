"""The sizes of the measured models: Llamas with random weights."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama, under the names that `LlamaConfig` has for them."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `LlamaConfig`."""
        return asdict(self)


SHAPES = {
    # About 64 M parameters.
    "60m": Shape(512, 12, 8, 8, 1024, 32_000),
    # The vocabulary of Llama 3, which decides the memory of a training step.
    "60m-128k": Shape(512, 12, 8, 8, 1024, 128_256),
    # 4 layers of width 4096; a narrow MLP and vocabulary, so that the edits are not drowned.
    "wide": Shape(4096, 4, 32, 8, 2048, 1024),
    "tinyllama-1.1b": Shape(2048, 22, 32, 4, 5632, 32_000),
    "llama-3-8b": Shape(4096, 32, 32, 8, 14_336, 128_256),
    # As large as the model that comes with reftune.
    "bundled": Shape(192, 4, 6, 3, 512, 4777),
    # For `--quick`.
    "tiny": Shape(32, 2, 2, 2, 48, 96),
    "tiny-wide": Shape(64, 2, 2, 2, 48, 96),
}
