"""A training step with logits of labelled tokens alone has the loss and the gradients of all."""

from functools import partial

import pytest
import torch
import transformers as tf
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers.loss.loss_utils import ForCausalLMLoss

from reftune import ReftConfig
from reftune.deferred_logits import Deferred
from reftune.labelled_loss import logits_everywhere
from reftune.reuse import without_reuse
from tests.adapters import shake
from tests.labelled_steps import (
    LABELS,
    LLAMA,
    batch,
    check_same,
    left_on,
    packed,
    step,
    trained,
)
from tests.tiny_models import CAUSAL, GATED, TinyModel

# What a model does to its logits before its loss, and what it adds to the loss.
CAPPED = (CAUSAL[5], {"final_logit_softcapping": 0.5})
ROUTED = (CAUSAL[4], {"output_router_logits": True, "router_aux_loss_coef": 0.7})
SCALED = (
    TinyModel("cohere", partial(tf.CohereConfig, **GATED), "CohereForCausalLM"),
    {"logit_scale": 0.3},
)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_loss_and_gradients_are_those_of_all_tokens(architecture, side):
    check_same(trained(architecture), **batch(side))


@pytest.mark.parametrize(
    ("architecture", "overrides"), [CAPPED, ROUTED, SCALED], ids=["capped", "routed", "scaled"]
)
def test_what_a_model_does_with_logits_and_loss_stays(architecture, overrides):
    model = trained(architecture, overrides)
    check_same(model, **batch())
    plain = trained(architecture)
    assert step(model, **batch()).loss != step(plain, **batch()).loss
    read = [step(model, flag, read=True, **batch()) for flag in (False, True)]
    torch.testing.assert_close(read[0].gradients, read[1].gradients, atol=1e-5, rtol=1e-4)
    assert read[0].heads == [(1, LABELS), (3, 7)]


def test_the_loss_is_the_mean_over_the_labels():
    model, inputs = trained(), batch("left")
    with logits_everywhere():
        logits = model(**inputs).logits
    flat = cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
    torch.testing.assert_close(model(**inputs).loss, flat)


def test_packed_rows():
    inputs = packed() | {"use_cache": False}
    check_same(trained(), **inputs)
    alone = step(trained(), **batch())
    torch.testing.assert_close(step(trained(), **inputs).loss, alone.loss)


@pytest.mark.parametrize("count", [11, torch.tensor(11)])
def test_the_number_of_items_of_several_batches(count):
    model = trained()
    check_same(model, num_items_in_batch=count, **batch())
    part = step(model, num_items_in_batch=count, **batch()).loss
    torch.testing.assert_close(part, step(model, **batch()).loss * LABELS / 11)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    model = trained()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    check_same(model, use_cache=False, **batch())


def test_a_head_that_is_trained_too():
    model = trained(modules_to_save=["lm_head"])
    check_same(model, **batch())
    name = "base_model.model.lm_head.modules_to_save.default.weight"
    assert step(model, **batch()).gradients[name].abs().max() > 0


def test_half_precision():
    model = trained()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with without_reuse():
            output = model(**batch())
        check_same(model, atol=2e-3, **batch())
    with logits_everywhere(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(**batch()).logits
    assert expected.dtype == torch.bfloat16
    torch.testing.assert_close(output.logits, expected)  # read outside of autocast


def test_several_adapters():
    model = trained()
    model.add_adapter("second", ReftConfig(layers=[1], r=2, positions="l1"))
    shake(model, "second", seed=3)
    first = step(model, **batch()).loss
    model.base_model.set_adapter(["default", "second"])
    check_same(model, **batch())
    assert step(model, **batch()).loss != first


def no_labels(inputs):
    return inputs | {"labels": torch.full_like(inputs["labels"], -100)}


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: inputs | {"logits_to_keep": 7},
        lambda inputs: inputs | {"shift_labels": inputs["labels"].roll(-1, dims=1)},
        lambda inputs: inputs | {"return_dict": False},
        no_labels,
    ],
    ids=["logits_to_keep", "shift_labels", "tuple", "no labels"],
)
def test_a_call_that_says_more_is_left_alone(change):
    model = trained()
    inputs = change(batch())
    mask = inputs["attention_mask"]
    output = model(**inputs, prompt_mask=mask)
    with logits_everywhere():
        expected = model(**inputs, prompt_mask=mask)
    assert type(output) is type(expected)
    torch.testing.assert_close(output[1], expected[1], atol=0, rtol=0)


def test_other_models_and_modes_are_left_alone():
    lora = get_peft_model(LLAMA.build(), LoraConfig(r=2, target_modules=["q_proj"])).train()
    assert step(lora, **batch()).heads == [(3, 7)]
    assert step(trained(layers="all", component="lm_head"), **batch()).heads == [(3, 7)]
    own_loss = trained()
    own_loss.get_base_model().loss_function = lambda *args, **kwargs: ForCausalLMLoss(
        *args, **kwargs
    )
    assert step(own_loss, **batch()).heads == [(3, 7)]
    model = trained()
    for context in (torch.no_grad, model.disable_adapter):
        with context():
            assert not any(isinstance(value, Deferred) for value in model(**batch()).values())
            assert type(model(**batch())) is tf.modeling_outputs.CausalLMOutputWithPast
    model.eval()
    assert step(model, **batch()).heads == [(3, 7)]


def test_whoever_hooked_or_wrapped_the_model_before_has_all_logits():
    base, seen = LLAMA.build(), []
    base.register_forward_hook(lambda _, args, output: seen.append(output.logits))
    base.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(base.forward))
    model = get_peft_model(base, ReftConfig(layers=[0], r=2)).train()
    with without_reuse():
        logits = model(**batch()).logits
    with logits_everywhere():
        expected = model(**batch()).logits
    assert seen[0] is logits
    assert (logits.dtype, logits.shape) == (torch.float32, (3, 7, 96))
    torch.testing.assert_close(logits, expected)
    assert step(model, **batch()).heads == [(1, LABELS), (3, 7)]  # the hook reads them


def test_a_compiled_step_has_all_tokens():
    model, inputs = trained(), batch()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    loss = compiled(**inputs).loss
    torch.testing.assert_close(loss, model(**inputs).loss)


def test_nothing_stays_on_the_model():
    base = LLAMA.build()
    before = left_on(base)
    model = get_peft_model(base, ReftConfig(layers=[0], r=2))
    attached = left_on(base)
    step(model.train(), **batch())
    assert left_on(base) == attached
    with pytest.raises(IndexError):
        model(**batch() | {"input_ids": torch.full((3, 7), 1000)})
    assert left_on(base) == attached
    model.unload()
    assert left_on(base) == before


def test_an_interrupted_step_leaves_with_the_adapter():
    base = LLAMA.build()
    before = left_on(base)
    model = get_peft_model(base, ReftConfig(layers=[0], r=2)).train()
    loss, attached = step(model, **batch()).loss, left_on(base)

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = base.model.register_forward_hook(interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model(**batch("left"))
    hook.remove()
    assert step(model, **batch()).loss == loss
    assert left_on(base) == attached
    hook = base.model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(**batch("left"))
    hook.remove()
    model.unload()
    assert left_on(base) == before


class ShiftsItself(tf.LlamaForCausalLM):
    def forward(self, input_ids=None, labels=None, logits_to_keep=0, **kwargs):
        logits = self.lm_head(self.model(input_ids, **kwargs).last_hidden_state)
        loss = self.loss_function(logits[:, :-1].contiguous(), labels[:, 1:], self.vocab_size)
        return tf.modeling_outputs.CausalLMOutputWithPast(loss=loss, logits=logits)


def test_a_loss_of_something_else_is_an_error_that_says_what_to_do():
    base = ShiftsItself(tf.LlamaConfig(**GATED))
    model = get_peft_model(base, ReftConfig(layers=[0], r=2)).train()
    with pytest.raises(RuntimeError, match=r"ShiftsItself .*logits_everywhere\(\)"):
        model(**batch())
    with logits_everywhere():
        model(**batch())
