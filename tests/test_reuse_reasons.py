"""Nothing is reused where it cannot be, with a reason, and the step is the one without reuse."""

import logging
import warnings

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn

from reftune import ReftConfig
from tests.labelled_steps import LLAMA, packed, step, trained
from tests.reused_steps import both, check_equal, long_batch, reused
from tests.tiny_models import CAUSAL

TOGETHER = {"layers": [1, 2], "positions": "l3", "decode": 1}
GPT2 = next(architecture for architecture in CAUSAL if architecture.name == "gpt2")


def why_not(model: nn.Module, caplog, **inputs) -> str | None:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="reftune"):
        plain, ours = both(model, **inputs)
    check_equal(ours, plain)
    reuse = reused(model)
    assert reuse.reason is None or reuse.reason in caplog.text
    return reuse.reason


def holds(kwargs: dict) -> bool:
    """Say whether the last layer is given keys and values of a prefix."""
    cache = kwargs.get("past_key_values")
    return cache is not None and cache.get_seq_length(2) > 0


def test_dropout_in_the_base_model_is_a_reason(caplog):
    model = trained(GPT2, **TOGETHER)
    step(model, reuse=True, **long_batch())
    assert "dropout" in str(reused(model).reason)
    model = trained(LLAMA, {"attention_dropout": 0.1}, **TOGETHER)
    step(model, reuse=True, **long_batch())
    assert "attention_dropout=0.1" in str(reused(model).reason)


@pytest.mark.parametrize("positions", ["f1", "f2+l2", "all"])
def test_edits_of_the_beginning_of_the_prompt_are_a_reason(caplog, positions):
    model = trained(layers=[0], positions=positions, component="attention_output")
    assert "first layer is edited" in str(why_not(model, caplog, **long_batch()))


def test_checkpointing_of_a_model_that_is_edited_in_its_first_layer_is_a_reason(caplog):
    model = trained(layers=[0], positions="l1", component="attention_output")
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    assert "takes no cache" in str(why_not(model, caplog, **long_batch()))


def test_other_trained_weights_are_a_reason(caplog):
    base = LLAMA.build()
    lora = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False))
    with warnings.catch_warnings(action="ignore"):  # PEFT's, of two adapters
        model = get_peft_model(lora, ReftConfig(task_type="CAUSAL_LM", **TOGETHER))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name or "reft_edits" in name)
    assert "is trained, too" in str(why_not(model.train(), caplog, **long_batch()))


def test_a_model_that_does_not_agree_is_a_reason(caplog, monkeypatch):
    model = trained(**TOGETHER)
    attention = model.get_base_model().model.layers[2].self_attn
    own = attention.forward

    def forward(*args, **kwargs):
        continues = holds(kwargs)
        out, *rest = own(*args, **kwargs)
        return (out + continues, *rest)

    monkeypatch.setattr(attention, "forward", forward)
    assert "the loss would be" in str(why_not(model, caplog, **long_batch()))


def test_a_model_that_takes_no_cache_is_a_reason(caplog, monkeypatch):
    model = trained(**TOGETHER)
    attention = model.get_base_model().model.layers[2].self_attn
    own = attention.forward

    def forward(*args, **kwargs):
        assert not holds(kwargs)
        return own(*args, **kwargs)

    monkeypatch.setattr(attention, "forward", forward)
    assert "AssertionError" in str(why_not(model, caplog, **long_batch()))


@pytest.mark.parametrize(
    "inputs",
    [packed(), long_batch() | {"output_hidden_states": True}],
    ids=["packed", "hidden states"],
)
def test_steps_that_say_more_are_left_alone(inputs, caplog):
    model = trained(**TOGETHER)
    assert why_not(model, caplog, **inputs) is None
    assert reused(model).frozen is None


def test_wrong_labels_are_the_same_error():
    model = trained(**TOGETHER)
    wrong = long_batch()
    wrong["labels"][0, 3] = 5
    with pytest.raises(ValueError, match="begin a second time"):
        model(**wrong)
