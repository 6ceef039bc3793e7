"""Muon: momentum whose update is orthogonalised, for the weight matrices.

``torch.optim.Muon`` always orthogonalises in bfloat16, which a CPU without bf16 units does very
slowly.
"""

from collections.abc import Callable, Iterable

import torch

NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(gradient: torch.Tensor, half: bool, steps: int = 5) -> torch.Tensor:
    """Push the singular values of ``gradient`` towards one (Newton-Schulz iteration)."""
    a, b, c = NS_COEFFICIENTS
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.T if tall else gradient
    x = x / (x.norm() + 1e-7)
    x = x.bfloat16() if half else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.T if tall else x).to(gradient.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled so that the update has AdamW's usual RMS."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        half: bool = False,
    ) -> None:
        self.half = half
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every matrix from its gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                blended = parameter.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonalise(blended, self.half)
                scale = 0.2 * max(parameter.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * scale)
