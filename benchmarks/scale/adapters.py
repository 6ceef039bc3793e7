"""What an adapter is made of, and how many bytes it takes where."""

from dataclasses import dataclass
from typing import Any

from benchmarks.scale.models import FP32, Model

LORA_RANK = 8


@dataclass(frozen=True)
class Reft:
    """A LoReFT of the same kind at every site.

    Attributes:
        every_layer: edit all layers, or only the one in the middle.
        rank: r.
        positions: as `ReftConfig` takes them.
        edited: how many tokens of a row they are.
    """

    name: str
    every_layer: bool
    rank: int
    positions: str
    edited: int

    def sites(self, model: Model) -> int:
        """Return how many layers are edited."""
        return model.layers if self.every_layer else 1

    def below(self, model: Model) -> int:
        """Return how many of the first layers give what no edit has changed."""
        return 1 if self.every_layer else model.layers // 2 + 1

    def parameters(self, model: Model) -> int:
        """Return those that are trained: R and W, r × d each, and b, per site."""
        return self.sites(model) * (2 * self.rank * model.width + self.rank)

    def slot(self, model: Model) -> int:
        """Return the bytes of a slot in the banks of `reftune serve`, float32."""
        return FP32 * self.parameters(model)  # A = W − R, b and B = R have the same shapes

    def config(self, model: Model) -> dict[str, Any]:
        """Return the arguments of `ReftConfig`."""
        layers = "all" if self.every_layer else [model.layers // 2]
        return {"layers": layers, "r": self.rank, "positions": self.positions}


LAST = Reft("ReFT l1, r 4, middle layer", False, 4, "l1", 1)
SUFFIX = Reft("ReFT l7, r 8, all layers", True, 8, "l7", 7)
ENDS = Reft("ReFT f7+l7, r 8, all layers", True, 8, "f7+l7", 14)


def lora_inputs(model: Model, everywhere: bool) -> list[tuple[int, int]]:
    """Return the widths in and out of the projections of a layer that have a LoRA.

    Args:
        everywhere: all linear layers of a model without experts, or queries and values.
    """
    d, inner = model.width, model.inner
    q, kv = model.heads * model.head_width, model.kv_heads * model.head_width
    if not everywhere:
        return [(d, q), (d, kv)]
    return [(d, q), (d, kv), (d, kv), (q, d), (d, inner), (d, inner), (inner, d)]


def lora_parameters(model: Model, everywhere: bool) -> int:
    """Return those of a LoRA of rank 8."""
    widths = lora_inputs(model, everywhere)
    return model.layers * sum(LORA_RANK * (before + after) for before, after in widths)
