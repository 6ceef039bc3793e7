"""Everything that PEFT and transformers do with an adapter works with this one."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import pipeline

from reftune import INTERVENTIONS, ReftConfig
from reftune.attached import layers_of, planners_of
from tests.adapters import (
    GREEDY,
    IDS,
    LLAMA,
    adapted,
    build,
    logits,
    pair,
    shake,
)
from tests.tiny_models import ENCODERS
from tests.tiny_text import byte_level, tiny_llama


def test_several_adapters_are_added_chosen_disabled_and_deleted(tmp_path):
    model = adapted(layers=[0], positions="l1")
    base = logits(LLAMA.build())
    first = logits(model)
    model.add_adapter("second", ReftConfig(layers=[2], positions="f1", r=2))
    shake(model, "second", seed=1)
    assert torch.equal(logits(model), first)
    model.set_adapter("second")
    second = logits(model)
    assert not torch.equal(second, first)
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), second)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(LLAMA.build(), tmp_path, adapter_name="default")
    loaded.load_adapter(tmp_path / "second", "second")
    loaded.set_adapter("second")
    assert torch.equal(logits(loaded), second)
    model.set_adapter("default")
    model.delete_adapter("second")
    assert planners_of(model)[0].where.keys() == {"default"}
    assert torch.equal(logits(model), first)
    assert torch.equal(logits(model.unload()), base)


def test_one_config_serves_models_of_several_shapes():
    config = ReftConfig(layers="all", positions="l1")
    for layers in (3, 5, 2):
        model = get_peft_model(build({"num_hidden_layers": layers}), config)
        assert len(layers_of(model)) == layers
        assert config.layers == list(range(layers))
    config.layers = [1]
    assert len(layers_of(get_peft_model(build({}), config))) == 1


def test_active_adapters_apply_in_order():
    model = adapted(layers=[1], positions="l2", init="paper")
    model.add_adapter("second", ReftConfig(layers=[1], positions="l2", r=2))
    shake(model, "second", seed=1)
    planners_of(model)[0]._inside.add("root")  # as in a forward pass of the model
    results = []
    for order in (["default", "second"], ["second", "default"]):
        model.base_model.set_adapter(order)
        results.append(logits(model))
        (layer,) = layers_of(model)
        hidden = torch.randn(1, IDS.shape[1], 32)
        expected = hidden.clone()
        planners_of(model)[0]._inside.add("root")
        for name in order:
            expected[:, -2:] = layer.reft_edits[name](expected[:, -2:])
        torch.testing.assert_close(layer.edit(hidden), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(*results)


def test_an_adapter_that_is_not_active_takes_no_part():
    model = adapted(layers=[1], positions="l1")
    expected = model.generate(input_ids=IDS, **GREEDY)
    model.add_adapter("other", ReftConfig(layers=[0], decode=2))
    with torch.no_grad():
        cache = model(input_ids=IDS, use_cache=True).past_key_values
        model(input_ids=IDS[:, :1], past_key_values=cache)
    (planner,) = planners_of(model)
    assert planner.idle
    assert torch.equal(model.generate(input_ids=IDS, **GREEDY), expected)
    plain = LLAMA.build()
    plain.add_adapter(ReftConfig(layers=[0]), adapter_name="gone")
    plain.delete_adapter("gone")
    plain.train()(input_ids=IDS)  # no labels, and none needed


@pytest.mark.parametrize("order", [["heads", "whole"], ["whole", "heads"]])
def test_adapters_of_other_shapes_share_a_site(order):
    component = {"layers": [1], "component": "attention_value_output"}
    configs = {"heads": ReftConfig(heads=[1], **component), "whole": ReftConfig(**component)}
    model = get_peft_model(LLAMA.build(), configs[order[0]], adapter_name=order[0]).eval()
    model.add_adapter(order[1], configs[order[1]])
    for name in order:
        shake(model, name)
        model.set_adapter(name)
        alone = get_peft_model(LLAMA.build(), configs[name]).eval()
        shake(alone)
        assert torch.equal(logits(model), logits(alone))


def test_merging_is_refused_with_the_reason():
    model = adapted(layers=[0])
    before = logits(model)
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="cannot be merged"):
            merge()
    assert torch.equal(logits(model), before)


def test_unloading_leaves_no_trace():
    plain, base = LLAMA.build(), LLAMA.build()
    model = get_peft_model(base, ReftConfig(component="block_input", layers=[0, 1]))
    model.add_adapter("other", ReftConfig(component="block_output", layers=[0]))
    base = model.unload()
    assert [name for name, _ in base.named_modules()] == [name for name, _ in plain.named_modules()]
    assert "generate" not in vars(base)
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in base.modules()]
    assert not any(hooks)


def test_unloading_gives_back_a_head_of_several_layers():
    base = next(one for one in ENCODERS if one.name == "roberta").build()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = get_peft_model(base, ReftConfig(task_type="SEQ_CLS", positions="f1", layers=[0]))
    after = model.unload().state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_it_stands_beside_a_lora():
    base = get_peft_model(
        LLAMA.build(), LoraConfig(target_modules=["o_proj"], init_lora_weights=False)
    )
    with_lora = logits(base.eval())
    # PEFT means the same method twice.
    with pytest.warns(UserWarning, match="second time"), pytest.warns(UserWarning, match="Already"):
        model = get_peft_model(base, ReftConfig(layers=[1], component="attention_output")).eval()
    torch.testing.assert_close(logits(model), with_lora, atol=1e-5, rtol=1e-4)
    shake(model)
    assert not torch.allclose(logits(model), with_lora)


def test_a_copy_is_independent():
    model = adapted(layers=[1])
    twin = copy.deepcopy(model)
    before = logits(model)
    assert torch.equal(logits(twin), before)
    shake(twin, seed=5)
    assert torch.equal(logits(model), before)
    assert not torch.equal(logits(twin), before)
    assert twin.generate(input_ids=IDS, **GREEDY).shape == (1, IDS.shape[1] + 4)
    assert planners_of(twin)[0] is not planners_of(model)[0]
    assert planners_of(twin)[0].root is twin.get_base_model()


def test_a_compiled_model_is_refused():
    model = LLAMA.build()
    model.compile(backend="eager")
    with pytest.raises(ValueError, match=r"before torch\.compile"):
        get_peft_model(model, ReftConfig(layers=[0]))
    model = LLAMA.build()
    model.model.layers[0].compile(backend="eager")
    with pytest.raises(ValueError, match=r"model\.layers\.0 is compiled"):
        model.add_adapter(ReftConfig(layers=[0]))


def test_an_intervention_of_ones_own_takes_one_class_and_one_line(monkeypatch, tmp_path):
    class Tanh(nn.Module):
        """`h + Wᵀ tanh(W h)`"""

        def __init__(self, width: int, rank: int, stack: tuple[int, ...] = ()):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(*stack, rank, width) / width**0.5)

        def forward(self, h):
            return h + torch.tanh(h @ self.weight.mT) @ self.weight

    monkeypatch.setitem(INTERVENTIONS, "tanh", Tanh)
    model = adapted(intervention="tanh", layers=[1], r=2, positions="f2+l2", tied=False)
    expected = logits(model)
    assert not torch.allclose(expected, logits(LLAMA.build()))
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(LLAMA.build(), tmp_path)), expected)


def test_dropout_falls_on_the_edit_or_on_the_state():
    model, _ = pair(LLAMA, positions="all", layers=[1], dropout=0.5)
    (layer,) = layers_of(model)
    state_model, _ = pair(LLAMA, positions="all", layers=[1], dropout=0.5, dropout_on="state")
    (state_layer,) = layers_of(state_model)
    hidden = torch.randn(1, IDS.shape[1], 32)
    for some in (model, state_model):
        logits(some)  # plans positions for this many tokens
        planners_of(some)[0]._inside.add("root")  # as in a forward pass of the model
    whole = layer.edit(hidden) - hidden
    layer.train(), state_layer.train()
    torch.manual_seed(0)
    change = layer.edit(hidden) - hidden
    dropped = change.abs() < 1e-6
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(change[~dropped], 2 * whole[~dropped], atol=1e-4, rtol=1e-3)
    edited = state_layer.edit(hidden)
    assert 0.3 < (edited.abs() < 1e-5).float().mean() < 0.7


def test_a_pipeline_generates_with_the_adapter():
    tokenizer = byte_level()
    config = ReftConfig(layers=[1], task_type="CAUSAL_LM")
    peft_model = get_peft_model(tiny_llama(tokenizer), config).eval()
    shake(peft_model)
    generate = pipeline("text-generation", model=peft_model, tokenizer=tokenizer)
    (answer,) = generate("hello", max_new_tokens=3, do_sample=False, return_full_text=False)
    ids = tokenizer("hello", return_tensors="pt").input_ids
    expected = peft_model.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert answer["generated_text"] == tokenizer.decode(
        expected[0, ids.shape[1] :], skip_special_tokens=True
    )
