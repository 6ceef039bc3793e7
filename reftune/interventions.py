"""The edits of the ReFT family: one class per formula, knowing nothing but tensors.

Every edit maps hidden states `h` of shape `(..., positions, width)` to edited ones of the same
shape. Its parameters have the shapes `(*stack, rank, width)` and `(*stack, rank or width)`. `stack`
is usually empty; otherwise each of its elements is an edit of its own (per attention head, or for
the first and for the last positions), and `h` is `(batch, *stack, positions, width)`.

An edit of your own is such a class, and one line: `INTERVENTIONS["mine"] = Mine`. Its parameters
are not those of sub-modules, and only its `forward` reads them: FSDP and ZeRO gather by module.
Those with an orthonormal R are `Rotated`: their `forward` takes what `prepare` makes of R, so that
`reftune.rotations` can compute the R of all layers at once.

Formulas: ReFT, arXiv 2404.03592v3 (LoReFT eq. 2, DiReFT eq. 3, steering vectors App. B); RED,
arXiv 2402.15179.
"""

import inspect
import math

import torch
from torch import Tensor, nn

from reftune.formulas import Activation, folded, linear, replacement
from reftune.orthonormal import orthonormal


def _linear_parameters(
    stack: tuple[int, ...], rank: int, width: int
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias as `torch.nn.Linear` draws them, once per element of the stack."""
    bound = 1 / math.sqrt(width)
    weight = nn.Parameter(torch.empty(*stack, rank, width).uniform_(-bound, bound))
    bias = nn.Parameter(torch.empty(*stack, rank).uniform_(-bound, bound))
    return weight, bias


def _refuse_identity(name: str, identity: bool, activation: Activation) -> None:
    if identity and activation is not linear:  # or, as with relu, would never leave it
        raise ValueError(f"{name} with an activation has no identity start; take init='paper'")


class Rotated(nn.Module):
    """An edit whose R has orthonormal rows: those that its parameter `weight` stands for."""

    def __init__(self, width: int, rank: int, stack: tuple[int, ...]):
        super().__init__()
        # Of a Gaussian matrix they are uniformly distributed; for their length see `orthonormal`.
        self.weight = nn.Parameter(orthonormal(torch.randn(*stack, rank, width)) / 2)

    def prepare(self, R: Tensor) -> tuple[Tensor, ...]:
        """Return what `forward` needs of the parameters alone, besides the bias."""
        return (R,)

    def prepared(self, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what was prepared, or prepare it."""
        return given or self.prepare(orthonormal(self.weight))


class LoReFT(Rotated):
    """`h + Rᵀ(f(Wh + b) − Rh)`, rows of R orthonormal (eq. 2), so that `R h' = f(W h + b)`.

    Args:
        width: size of the hidden states, d.
        rank: number of edited directions, r.
        stack: leading dimensions of the parameters, see the module.
        identity: start with `W = R, b = 0`, which leaves `h` unchanged, instead of the paper's
            start, where W and b are drawn as `torch.nn.Linear` draws them.
        activation: f, `linear` by default.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        stack: tuple[int, ...] = (),
        identity: bool = True,
        activation: Activation = linear,
    ):
        super().__init__(width, rank, stack)
        _refuse_identity("LoReFT", identity, activation)
        self.source, self.bias = _linear_parameters(stack, rank, width)
        self.activation = activation
        if identity:
            self.source = nn.Parameter(orthonormal(self.weight.detach()))
            nn.init.zeros_(self.bias)

    def prepare(self, R: Tensor) -> tuple[Tensor, ...]:
        return folded(self.source, R, self.activation), R

    def forward(self, h: Tensor, *prepared: Tensor) -> Tensor:
        (A, R), b = self.prepared(prepared), self.bias[..., None, :]
        return h + replacement(h, A, R, b, self.activation) @ R


class NoReFT(nn.Module):
    """`h + W2ᵀ(f(W1 h + b) − W2 h)`, W2 free: LoReFT without the orthonormality (App. F).

    Arguments as for `LoReFT`; the identity start is `W1 = W2, b = 0`.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        stack: tuple[int, ...] = (),
        identity: bool = True,
        activation: Activation = linear,
    ):
        super().__init__()
        _refuse_identity("NoReFT", identity, activation)
        self.weight, _ = _linear_parameters(stack, rank, width)
        self.source, self.bias = _linear_parameters(stack, rank, width)
        self.activation = activation
        if identity:
            self.source = nn.Parameter(self.weight.detach().clone())
            nn.init.zeros_(self.bias)

    def forward(self, h: Tensor) -> Tensor:
        W2, W1, b = self.weight, self.source, self.bias[..., None, :]
        A = folded(W1, W2, self.activation)
        return h + replacement(h, A, W2, b, self.activation) @ W2


class DiReFT(nn.Module):
    """`h + W2ᵀ f(W1 h + b)`, W2 free (eq. 3).

    Arguments as for `LoReFT`; the identity start is `W2 = 0`. In pyreft: `NodireftIntervention`.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        stack: tuple[int, ...] = (),
        identity: bool = True,
        activation: Activation = linear,
    ):
        super().__init__()
        self.weight, _ = _linear_parameters(stack, rank, width)
        self.source, self.bias = _linear_parameters(stack, rank, width)
        self.activation = activation
        if identity:
            nn.init.zeros_(self.weight)

    def forward(self, h: Tensor) -> Tensor:
        W2, W1, b = self.weight, self.source, self.bias[..., None, :]
        return h + self.activation(h @ W1.mT + b) @ W2


class OrthonormalDiReFT(Rotated):
    """`h + Rᵀ f(Wh + b)`, rows of R orthonormal (the "direct" ablation).

    Arguments as for `LoReFT`; the start is `W = 0, b = 0`. In pyreft: `DireftIntervention`.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        stack: tuple[int, ...] = (),
        identity: bool = True,
        activation: Activation = linear,
    ):
        super().__init__(width, rank, stack)
        _refuse_identity("orthonormal DiReFT", identity, activation)
        self.source, self.bias = _linear_parameters(stack, rank, width)
        self.activation = activation
        if identity:
            nn.init.zeros_(self.source)
            nn.init.zeros_(self.bias)

    def forward(self, h: Tensor, *prepared: Tensor) -> Tensor:
        (R,), W, b = self.prepared(prepared), self.source, self.bias[..., None, :]
        return h + self.activation(h @ W.mT + b) @ R


class ConsReFT(Rotated):
    """`h + Rᵀ(b − Rh)`, rows of R orthonormal. No R and b are the identity, so it has one start."""

    def __init__(self, width: int, rank: int, stack: tuple[int, ...] = ()):
        super().__init__(width, rank, stack)
        _, self.bias = _linear_parameters(stack, rank, width)

    def forward(self, h: Tensor, *prepared: Tensor) -> Tensor:
        (R,), b = self.prepared(prepared), self.bias[..., None, :]
        return h + (b - h @ R.mT) @ R


class LobiReFT(Rotated):
    """`h + Rᵀ b`, rows of R orthonormal. The identity start is `b = 0`."""

    def __init__(self, width: int, rank: int, stack: tuple[int, ...] = (), identity: bool = True):
        super().__init__(width, rank, stack)
        _, self.bias = _linear_parameters(stack, rank, width)
        if identity:
            nn.init.zeros_(self.bias)

    def forward(self, h: Tensor, *prepared: Tensor) -> Tensor:
        (R,), b = self.prepared(prepared), self.bias[..., None, :]
        return h + b @ R


class RED(nn.Module):
    """`s ⊙ h + t` (arXiv 2402.15179). Starts as the identity."""

    def __init__(self, width: int, stack: tuple[int, ...] = ()):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*stack, width))
        self.bias = nn.Parameter(torch.zeros(*stack, width))

    def forward(self, h: Tensor) -> Tensor:
        s, t = self.weight[..., None, :], self.bias[..., None, :]
        return s * h + t


class SteeringVector(nn.Module):
    """`h + c·v`, v trained, the strength c = `scale` fixed (App. B). Starts as the identity."""

    def __init__(self, width: int, stack: tuple[int, ...] = (), scale: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*stack, width))
        self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        v, c = self.weight[..., None, :], self.scale
        return h + c * v


INTERVENTIONS: dict[str, type[nn.Module]] = {
    "loreft": LoReFT,
    "noreft": NoReFT,
    "direft": DiReFT,
    "direft_orthonormal": OrthonormalDiReFT,
    "consreft": ConsReFT,
    "lobireft": LobiReFT,
    "red": RED,
    "steering_vector": SteeringVector,
}


def options(intervention: str) -> set[str]:
    """Return the names of the constructor arguments of an intervention.

    Raises:
        ValueError: no intervention has this name.
    """
    if intervention not in INTERVENTIONS:
        known = ", ".join(INTERVENTIONS)
        raise ValueError(f"intervention {intervention!r}: expected one of {known}")
    return set(inspect.signature(INTERVENTIONS[intervention]).parameters)
