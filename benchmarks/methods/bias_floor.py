"""The floor: the frozen model with a bias vector trained at the same layers and tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods.method import Method


class BiasFloor(Method):
    """`h + b` at the edited tokens, in place: the least that acting at those layers costs.

    It goes through the whole model and its loss over all tokens, as the frozen model does.
    """

    def build(self) -> None:
        width, first, last = self.base.config.hidden_size, self.edits["first"], self.edits["last"]
        prompt, device = self.options["prompt"], self.base.device
        self.places = torch.tensor([*range(first), *range(prompt - last, prompt)], device=device)
        # A part of the model, where an optimizer finds it.
        self.base.floor = nn.ParameterList()
        for layer in self.edits["layers"]:
            bias = nn.Parameter(torch.zeros(width, device=device))
            self.base.floor.append(bias)
            self.base.model.layers[layer].register_forward_hook(self._hook(bias))
        self.model = self.base
        if self.options.get("compiled"):
            self.model = torch.compile(self.base)

    def _hook(self, bias: nn.Parameter) -> Any:
        def add(module: nn.Module, args: tuple, output: Any) -> None:
            hidden = output if isinstance(output, Tensor) else output[0]
            rows, _, width = hidden.shape
            change = bias.to(hidden.dtype).expand(rows, len(self.places), width)
            hidden.index_add_(1, self.places, change)

        return add
