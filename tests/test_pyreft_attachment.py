"""What interventions do to their model: nothing but edits, also in backward passes and copies."""

import copy
import gc

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from reftune import pyreft
from tests.pyreft_models import (
    IDS,
    LLAMA,
    at,
    loreft,
    run,
    where,
    wrapped,
)
from tests.tiny_models import CAUSAL, ENCODERS


def test_the_model_itself_stays_what_it_was():
    base = LLAMA.build()
    expected = base(IDS).logits
    reft_model = wrapped(at(1), model=base)
    original, edited = reft_model(
        {"input_ids": IDS}, unit_locations={"base": 3}, output_original_output=True, labels=IDS
    )
    assert torch.equal(original.logits, expected)
    assert torch.equal(reft_model.model(IDS).logits, expected)
    assert not torch.equal(edited.logits, expected)
    assert edited.loss is not None
    assert [name for name, _ in base.named_modules() if "intervention" in name] == []
    del reft_model, edited
    gc.collect()
    assert all(not module._forward_hooks for module in base.modules())


def test_beside_lora():
    lora = get_peft_model(LLAMA.build(), LoraConfig(target_modules=["q_proj"]))
    path = "base_model.model.model.layers[1].output"
    reft_model = wrapped({"layer": 1, "component": path, "intervention": loreft()}, model=lora)
    settings = {"unit_locations": {"base": 5}}
    torch.testing.assert_close(run(reft_model, **settings), run(wrapped(at(1)), **settings))
    assert reft_model.count_parameters(include_model=True) == reft_model.count_parameters()
    lora.base_model.enable_adapter_layers()
    config = pyreft.ReftConfig(representations=at(1))
    kept = pyreft.get_reft_model(
        get_peft_model(LLAMA.build(), LoraConfig(target_modules=["q_proj"])),
        config,
        disable_model_grads=False,
    )
    assert kept.count_parameters(include_model=True) > kept.count_parameters()


def test_gradient_checkpointing_gives_the_same_gradients():
    def gradients(checkpointing: bool) -> list[Tensor]:
        # A layer's own hook runs outside of its checkpoint, those of its parts within.
        reft_model = wrapped(at(0), at(1, 1, component="attention_output")).train()
        if checkpointing:
            reft_model.gradient_checkpointing_enable()
        _, outputs = reft_model(
            {"input_ids": IDS}, unit_locations=where([[2], [3]], [[4]]), labels=IDS
        )
        with torch.no_grad():
            reft_model.model(IDS)  # an unedited pass in between, as of a reference
        outputs.loss.backward()
        return [parameter.grad for parameter in reft_model.get_trainable_parameters()]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


def test_a_copy_is_a_model_of_its_own():
    reft_model = wrapped(at(1))
    settings = {"unit_locations": {"base": 3}}
    before = run(reft_model, **settings)
    copied = copy.deepcopy(reft_model)
    assert torch.equal(run(copied, **settings), before)
    nn.init.zeros_(next(iter(reft_model.interventions.values())).learned_source.weight)
    assert torch.equal(run(copied, **settings), before)
    assert not torch.equal(run(reft_model, **settings), before)


@pytest.mark.parametrize("component", ["block_input", "attention_input", "attention_value_output"])
@pytest.mark.parametrize("checkpointing", [None, {"use_reentrant": False}], ids=str)
def test_edited_inputs_are_differentiated(component, checkpointing):
    """In two layers, so that what the lower one edits is differentiated through the upper one."""
    reft_model = wrapped(at(0, 0, component=component), at(1, 1, component=component)).train()
    if checkpointing is not None:
        reft_model.gradient_checkpointing_enable(checkpointing)
    places = {"unit_locations": where([[2], [3]], [[4]])}

    def loss() -> Tensor:
        return reft_model({"input_ids": IDS}, labels=IDS, **places)[1].loss

    loss().backward()
    bias = next(iter(reft_model.interventions.values())).learned_source.bias
    measured = []
    with torch.no_grad():
        for change in (1e-2, -1e-2):
            bias[0] += change
            measured.append(loss().double())
            bias[0] -= change
    slope = float(measured[0] - measured[1]) / 2e-2
    assert float(bias.grad[0]) == pytest.approx(slope, rel=0.05, abs=2e-5)
    assert abs(slope) > 2e-4


def test_models_on_one_base_do_not_see_each_others_calls():
    base = LLAMA.build().train()
    first = wrapped(at(1, 0, component="attention_output"), model=base).train()
    second = wrapped(at(1, 1, component="attention_output"), model=base).train()
    second.gradient_checkpointing_enable()
    first({"input_ids": IDS}, unit_locations={"base": 2}, labels=IDS)
    second({"input_ids": IDS}, unit_locations={"base": 3}, labels=IDS)[1].loss.backward()
    alone = wrapped(at(1, 1, component="attention_output")).train()
    alone({"input_ids": IDS}, unit_locations={"base": 3}, labels=IDS)[1].loss.backward()
    pairs = zip(second.get_trainable_parameters(), alone.get_trainable_parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.grad, other.grad)


def test_an_intervention_can_be_replaced():
    reft_model = wrapped(at(1, 0))
    reft_model.interventions[reft_model.sorted_keys[0]] = loreft(5)
    settings = {"unit_locations": {"base": 3}}
    torch.testing.assert_close(run(reft_model, **settings), run(wrapped(at(1, 5)), **settings))


def test_a_model_is_pickled_with_interventions_on_it(tmp_path):
    reft_model = wrapped(at(1))
    torch.save(reft_model.model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, reft_model.model(IDS).logits)


class Named(pyreft.ReftModel):
    """A user's subclass with another constructor and a module of its own."""

    def __init__(self, note, config, model):
        self.note = note
        super().__init__(config, model)
        self.head = nn.Linear(2, 2)


def test_a_copy_of_a_subclass_keeps_what_is_its_own():
    made = Named("x", pyreft.ReftConfig(representations=at(1)), LLAMA.build()).eval()
    made.note = "changed"
    copied = copy.deepcopy(made)
    assert (type(copied), copied.note) == (Named, "changed")
    assert torch.equal(copied.head.weight, made.head.weight)
    settings = {"unit_locations": {"base": 3}}
    assert torch.equal(run(copied, **settings), run(made, **settings))
    assert sum(len(module._forward_hooks) for module in copied.modules()) == 1


def test_one_intervention_at_several_layers_is_counted_once():
    shared = loreft()
    reft_model = wrapped(*[{"layer": layer, "intervention": shared} for layer in (0, 1)])
    linked = wrapped(*[at(layer, intervention_link_key=7) for layer in (0, 1)])
    alone = wrapped(at(0))
    assert reft_model.count_parameters() == linked.count_parameters() == alone.count_parameters()
    assert len(reft_model.get_trainable_parameters()) == 3


@pytest.mark.parametrize("architecture", CAUSAL + ENCODERS, ids=lambda one: one.name)
def test_every_architecture_by_name_and_by_path(architecture):
    model = architecture.build()
    named = wrapped(at(1), model=model)
    owner = next(module for module in model.modules() if module._forward_hooks)
    path = next(name for name, module in model.named_modules() if module is owner)
    by_path = wrapped({"component": f"{path}.output", "intervention": loreft()}, model=model)
    settings = {"unit_locations": where([[3], [0]])}
    expected = run(named, **settings)
    assert (expected - model(IDS).logits).abs().max() > 1e-4
    assert torch.equal(run(by_path, **settings), expected)
