"""Training steps on tiny models with reuse and without."""

import torch
from torch import nn

from reftune.attached import reuse_of
from reftune.reuse.reuse import Reuse
from tests.labelled_steps import Step, batch, step, trained
from tests.tiny_models import TinyModel

LONG = [
    (list(range(5, 25)), [40, 41]),
    (list(range(30, 39)), [42, 43, 44]),
    (list(range(50, 65)), [45]),
]
# What is on in these models unless they are told otherwise.
STILL = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "opt": {"dropout": 0.0, "attention_dropout": 0.0},
}


def still(architecture: TinyModel, **fields) -> nn.Module:
    """Return a model in training without dropout, whose adapter changes much."""
    return trained(architecture, STILL.get(architecture.name), **fields)


def reused(model: nn.Module) -> Reuse:
    """Return what reuses in the only planner of a model."""
    (reuse,) = reuse_of(model)
    return reuse


def both(model: nn.Module, **inputs) -> tuple[Step, Step]:
    """Return a step without reuse, and the second one with it."""
    plain = step(model, **inputs)
    step(model, reuse=True, **inputs)
    return plain, step(model, reuse=True, **inputs)


def check_equal(ours: Step, plain: Step, atol: float = 1e-5) -> None:
    """Hold the loss and all gradients against each other."""
    torch.testing.assert_close(ours.loss, plain.loss, atol=atol, rtol=1e-5)
    torch.testing.assert_close(ours.gradients, plain.gradients, atol=atol, rtol=1e-4)


def long_batch(side: str = "right") -> dict[str, torch.Tensor]:
    """Return rows of different lengths of which most is prompt."""
    return batch(side, LONG)
