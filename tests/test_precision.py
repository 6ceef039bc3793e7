"""Edits keep their precision whatever casts the model they are attached to."""

import copy
import pickle
import sys

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _default_to_fused_or_foreach
from transformers import PreTrainedModel

from tests.adapters import adapted


def edits(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if "reft_edits" in name}


def as_trl(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


@pytest.fixture(autouse=True)
def quantized(monkeypatch):
    """Let models pass for quantized ones, as transformers marks them."""
    monkeypatch.setattr(PreTrainedModel, "is_quantized", True, raising=False)


@pytest.mark.parametrize(
    "cast", [as_trl, nn.Module.half, lambda model: model.to(dtype=torch.bfloat16)]
)
@pytest.mark.parametrize("copied", [lambda model: model, copy.deepcopy], ids=["itself", "a copy"])
def test_a_cast_leaves_the_bits_of_the_edits(cast, copied):
    model = copied(adapted(layers=[0, 1], r=2))
    objects, before = edits(model), {n: p.detach().clone() for n, p in edits(model).items()}
    assert len(before) == 6
    cast(model)
    for name, parameter in edits(model).items():
        assert parameter is objects[name]
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name])


def test_new_data_are_taken_in_the_precision_of_the_old():
    (parameter, *_) = edits(adapted(layers=[0])).values()
    parameter.data = torch.full_like(parameter, 1 / 3, dtype=torch.bfloat16)
    assert parameter.dtype == torch.float32
    assert torch.equal(parameter, torch.full_like(parameter, 1 / 3).bfloat16().float())
    parameter.data = torch.ones(3, dtype=torch.float64)
    assert torch.equal(parameter, torch.ones(3, dtype=torch.float64))


def test_a_config_in_half_precision_is_kept_too():
    model = adapted(layers=[0], dtype="bfloat16")
    assert {p.dtype for p in edits(model).values()} == {torch.bfloat16}
    as_trl(model)
    assert {p.dtype for p in edits(model).values()} == {torch.bfloat16}


def test_what_is_pickled_names_no_class_of_ours():
    (parameter, *_) = edits(adapted(layers=[0])).values()
    assert b"reftune" not in pickle.dumps(parameter)


def test_the_class_outlasts_a_model_that_is_emptied():
    model = adapted(layers=[0])
    model.to("meta").to_empty(device="cpu")
    as_trl(model)
    assert {p.dtype for p in edits(model).values()} == {torch.float32}


def test_upon_other_models_edits_are_what_fast_optimizers_take(monkeypatch):
    monkeypatch.delattr(PreTrainedModel, "is_quantized")
    parameters = list(edits(adapted(layers=[0])).values())
    torch_has = sys.modules[_default_to_fused_or_foreach.__module__]
    monkeypatch.setattr(torch_has, "_get_foreach_kernels_supported_devices", lambda: ["cpu"])
    assert _default_to_fused_or_foreach(parameters, differentiable=False) == (False, True)
    nn.Parameter(parameters[0])
