"""A decoding step of an adapter that edits the prompt is the base model's own."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.adapters import GREEDY, IDS, adapted
from tests.tiny_models import CAUSAL


class Watch(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operators(root: nn.Module, model: nn.Module) -> list[list[str]]:
    """Return the operators of every forward pass of `root` while `model` generates."""
    watch, passes = Watch(), []
    hooks = [
        root.register_forward_pre_hook(lambda *_: watch.names.clear(), prepend=True),
        root.register_forward_hook(lambda *_: passes.append(list(watch.names))),
    ]
    with watch, torch.no_grad():
        model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
    for hook in hooks:
        hook.remove()
    return passes


@pytest.mark.parametrize("config", [{}, {"tied": False}, {"positions": "l1", "layers": [1]}])
def test_no_operator_more_runs_than_in_the_base_model(config):
    base = CAUSAL[0].build()
    plain = operators(base, base)
    model = adapted(**config)
    ours = operators(model.get_base_model(), model)
    assert len(ours) == len(plain) == GREEDY["max_new_tokens"]
    assert len(ours[0]) > len(plain[0])  # the prompt is edited
    assert ours[1:] == plain[1:]


def test_a_policy_for_generated_tokens_adds_operators():
    base = CAUSAL[0].build()
    model = adapted(decode="all")
    assert len(operators(model.get_base_model(), model)[-1]) > len(operators(base, base)[-1])
