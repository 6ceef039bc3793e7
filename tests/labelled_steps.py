"""Training steps on tiny models, with logits of labelled tokens alone or of all."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from peft import get_peft_model
from torch import Tensor, nn

from reftune import ReftConfig
from reftune.labelled_loss import logits_everywhere
from reftune.reuse import without_reuse
from tests.adapters import padded, shake
from tests.tiny_models import CAUSAL, TinyModel

ROWS = [([5, 6, 7, 8, 9], [40, 41]), ([10, 11], [42, 43, 44]), ([13, 14, 15], [45])]
LABELS = sum(len(completion) for _, completion in ROWS)
LLAMA = CAUSAL[0]


@dataclass
class Step:
    """What one training step gave: the loss, the gradients, and the rows of every head's input."""

    loss: Tensor
    gradients: dict[str, Tensor]
    heads: list[tuple[int, ...]]


def trained(architecture: TinyModel = LLAMA, overrides: dict | None = None, **fields) -> nn.Module:
    """Return a model in training whose adapter changes much."""
    base = architecture.build(**(overrides or {}))
    settings = {"layers": [0, 2], "r": 3, "positions": "f1+l2", "task_type": "CAUSAL_LM", **fields}
    model = get_peft_model(base, ReftConfig(**settings))
    shake(model)
    return model.train()


def batch(side: str = "right", rows: list = ROWS) -> dict[str, Tensor]:
    """Return rows of different lengths with labels on their completions."""
    inputs = padded([prompt + completion for prompt, completion in rows], side)
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, (prompt, completion) in enumerate(rows):
        real = inputs["attention_mask"][row].nonzero()[:, 0]
        labels[row, real[len(prompt) :]] = torch.tensor(completion)
    return inputs | {"labels": labels}


def packed() -> dict[str, Tensor]:
    """Return the same rows in one, with borders."""
    ids, labels, places = [], [], []
    for prompt, completion in ROWS:
        ids += prompt + completion
        labels += [-100] * len(prompt) + completion
        places += range(len(prompt) + len(completion))
    given = {"input_ids": ids, "labels": labels, "position_ids": places}
    return {name: torch.tensor([values]) for name, values in given.items()}


def step(
    model: nn.Module, everywhere: bool = False, read: bool = False, reuse: bool = False, **inputs
) -> Step:
    """Run a forward and a backward pass, of the loss and, if they are read, of the logits too."""
    heads: list[tuple[int, ...]] = []
    head = model.get_base_model().get_output_embeddings()
    hook = head.register_forward_hook(lambda _, args, out: heads.append(tuple(out.shape[:-1])))
    model.zero_grad()
    torch.manual_seed(1)
    with ExitStack() as switches:
        if everywhere:
            switches.enter_context(logits_everywhere())
        if not reuse:
            switches.enter_context(without_reuse())
        output = model(**inputs)
    loss = output.loss
    total = loss + output.logits.float().square().mean() if read else loss
    total.backward()
    hook.remove()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    return Step(loss.detach(), gradients, heads)


def check_same(model: nn.Module, count: int = LABELS, atol: float = 1e-5, **inputs) -> None:
    """Hold a step with logits of labelled tokens alone against one with those of all tokens."""
    alone, everywhere = (step(model, flag, **inputs) for flag in (False, True))
    torch.testing.assert_close(alone.loss, everywhere.loss, atol=atol, rtol=1e-5)
    torch.testing.assert_close(alone.gradients, everywhere.gradients, atol=atol, rtol=1e-4)
    assert alone.heads == [(1, count)]
    assert everywhere.heads == [tuple(inputs["labels"].shape)]


def left_on(model: nn.Module) -> dict[str, int]:
    """Return how many hooks and attributes of its own every module has."""
    return {
        name: len(module._forward_pre_hooks) + len(module._forward_hooks) + len(vars(module))
        for name, module in model.named_modules()
    }
