"""A pass without gradients between a forward pass and its backward pass changes no gradient."""

import pytest
import torch
from peft import get_peft_model

from reftune import ReftConfig
from tests.tiny_models import CAUSAL

IDS = torch.tensor([[11, 12, 13, 14, 15, 16], [21, 22, 23, 24, 25, 26]])
OTHERS = torch.tensor([[31, 32, 33, 34], [41, 42, 43, 44], [51, 52, 53, 54]])


def model_with_reference(component: str, reentrant: bool):
    """Return a model in training with two adapters, as a trainer has it that copies one."""
    options = {"layers": [0, 1], "r": 2, "component": component, "init": "paper"}
    config = ReftConfig(task_type="CAUSAL_LM", positions="f1+l1", **options)
    model = get_peft_model(CAUSAL[0].build(), config)
    torch.manual_seed(1)
    model.add_adapter("other", config)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    return model.train()


def labels_of(ids: torch.Tensor, prompt: int) -> torch.Tensor:
    labels = ids.clone()
    labels[:, :prompt] = -100
    return labels


def gradients(component: str, reentrant: bool, between: str) -> dict[str, torch.Tensor]:
    model = model_with_reference(component, reentrant)
    loss = model(input_ids=IDS, labels=labels_of(IDS, 3)).loss
    if between:
        if between == "other":
            model.set_adapter("other")
        with torch.no_grad():
            model(input_ids=OTHERS, labels=labels_of(OTHERS, 2))
            model.generate(input_ids=OTHERS, max_new_tokens=2)
            model(input_ids=OTHERS, adapter_names=["other", "__base__", "default"])
            if between == "failing":
                with pytest.raises(ValueError, match="labels with no prompt token"):
                    model(input_ids=OTHERS, labels=OTHERS)
        model.set_adapter("default")
    loss.backward()
    named = model.named_parameters()
    return {name: p.grad for name, p in named if ".default." in name and p.grad is not None}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
@pytest.mark.parametrize("component", ["mlp_output", "attention_value_output"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("between", ["default", "other", "failing"])
def test_a_reference_does_not_change_gradients(component, reentrant, between):
    expected = gradients(component, reentrant, "")
    assert len(expected) == 6
    assert all(gradient.abs().sum() > 0 for gradient in expected.values())
    got = gradients(component, reentrant, between)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
