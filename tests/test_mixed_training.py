"""A training step with an adapter per row gives each adapter the gradient of a step of its own."""

import pytest
import torch
from peft import get_peft_model

from reftune import INTERVENTIONS, ReftConfig
from reftune.attached import planners_of
from reftune.labelled_loss import logits_everywhere
from reftune.reuse import without_reuse
from tests.adapters import IDS
from tests.labelled_steps import batch, packed
from tests.mixed_batches import gradients, own_step, train, with_adapters
from tests.tiny_models import CAUSAL, ENCODERS

OTHER = {"other": {"layers": [1], "r": 2, "positions": "f1+l2"}}
LAYOUTS = {
    "slots": {"positions": "f2+l2"},
    "untied": {"positions": "f1+l2", "tied": False},
    "all": {"positions": "all", "decode": 1},
    "heads": {"component": "attention_value_output", "heads": [0, 2], "tied": False},
}


def check_training(model, names: list[str], side: str = "right") -> None:
    """Hold a step of all adapters against one of each."""
    own = [name for name in dict.fromkeys(names) if name != "__base__"]
    (planner,) = planners_of(model)
    train(model, *own)
    alone = {name: own_step(model, name, names, side) for name in own}
    model.set_adapter("a")
    train(model, *own)
    model.zero_grad()
    torch.manual_seed(1)
    with without_reuse():
        loss = model(**batch(side), adapter_names=names, use_cache=False).loss
    assert list(planner.losses) == own
    assert loss.dtype == torch.float32
    loss.backward()
    torch.testing.assert_close(loss.detach(), sum(planner.losses.values()))
    for name, (own_loss, own_gradients) in alone.items():
        torch.testing.assert_close(planner.losses[name], own_loss, atol=1e-5, rtol=1e-5)
        got = gradients(model, name)
        torch.testing.assert_close(got, own_gradients, atol=2e-5, rtol=1e-3)
        assert max(gradient.abs().max() for gradient in got.values()) > 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("names", [["a", "b", "a"], ["b", "other", "a"], ["a", "__base__", "b"]])
def test_every_adapter_has_the_gradient_of_its_own_step(names, side):
    check_training(with_adapters(others=OTHER, layers=[0, 2]), names, side)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_every_intervention(intervention, layout):
    model = with_adapters(intervention=intervention, layers=[0, 2], **layout)
    check_training(model, ["a", "b", "a"])


@pytest.mark.parametrize(
    "architecture",
    [a for a in CAUSAL if a.name not in ("gpt2", "opt", "mpt")],  # they have dropout of their own
    ids=lambda a: a.name,
)
def test_every_architecture(architecture):
    model = with_adapters(architecture, others=OTHER, layers=[0, 2])
    check_training(model, ["a", "b", "other"])


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("fields", [{}, {"intervention": "red"}, {"positions": "all"}])
def test_checkpointed_layers(reentrant, fields):
    model = with_adapters(others=OTHER, **{"positions": "f1+l2"} | fields)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    check_training(model, ["a", "b", "other"])
    check_training(model, ["a", "b", "a"])


def test_packed_rows():
    model = with_adapters(layers=[0, 2], positions="l2")
    inputs = {key: torch.cat((value, value)) for key, value in packed().items()}
    train(model, "a", "b")
    with without_reuse():
        model(**inputs, adapter_names=["b", "a"], use_cache=False).loss.backward()
        got = {name: gradients(model, name) for name in "ab"}
        for name in "ab":
            model.set_adapter(name)
            model.zero_grad()
            model(**packed(), use_cache=False).loss.backward()
            torch.testing.assert_close(gradients(model, name), got[name], atol=2e-5, rtol=1e-3)


def test_an_adapter_without_a_label_loses_nothing():
    model = with_adapters(layers=[0])
    train(model, "a", "b")
    inputs = batch()
    inputs["labels"][1] = -100
    with without_reuse():
        loss = model(**inputs, adapter_names=["a", "b", "a"]).loss
    loss.backward()
    (planner,) = planners_of(model)
    assert planner.losses["b"] == 0
    assert loss == planner.losses["a"]
    assert all(not gradient.any() for gradient in gradients(model, "b").values())
    inputs["labels"][:] = -100
    with without_reuse():
        assert model(**inputs, adapter_names=["a", "b", "a"]).loss == 0
        assert model(**batch(), adapter_names=["__base__"] * 3).loss == 0
        assert planner.losses == {}
    model.eval()(**batch(), adapter_names=["a", "b", "a"])
    assert planner.losses == {}


def test_logits_are_there_and_requires_grad_stays():
    model = with_adapters(layers=[0, 1])
    model.set_adapter("a")
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.train()
    with without_reuse():
        output = model(**batch(), adapter_names=["a", "b", "a"])
    assert output.logits.shape == (3, 7, 96)
    output.loss.backward()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    grads = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grads == {name for name, trained in before.items() if trained}


@pytest.mark.parametrize("change", ["no labels", "prompt_mask", "logits_to_keep", "everywhere"])
def test_a_step_without_a_loss_of_its_own_is_refused(change):
    model = with_adapters(layers=[0]).train()
    inputs = batch() | {"adapter_names": ["a", "b", "a"]}
    if change == "everywhere":
        with logits_everywhere(), pytest.raises(ValueError, match=r"labels \(3, 7\): expected"):
            model(**inputs)
        return
    if change == "logits_to_keep":
        inputs["logits_to_keep"] = 7
    else:
        del inputs["labels"]
    if change == "prompt_mask":
        inputs["prompt_mask"] = inputs["attention_mask"]
    with pytest.raises(ValueError, match="labels"):
        model(**inputs)


def test_what_is_added_to_a_loss_is_refused():
    routed = with_adapters(CAUSAL[4], layers=[0]).train()
    names = ["a", "b", "a"]
    with pytest.raises(ValueError, match="with output_router_logits"):
        routed(**batch(), adapter_names=names, output_router_logits=True)
    with pytest.raises(ValueError, match="with num_items_in_batch"):
        routed(**batch(), adapter_names=names, num_items_in_batch=6)


def test_wholly_trained_modules_and_other_models_are_refused():
    config = ReftConfig(layers=[0], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(CAUSAL[0].build(), config).train()
    with pytest.raises(ValueError, match="ModulesToSaveWrapper: expected adapters without"):
        model(**batch(), adapter_names=["default"] * 3)
    encoder = get_peft_model(ENCODERS[0].build(), ReftConfig(layers=[0])).train()
    with pytest.raises(ValueError, match="BertForSequenceClassification: expected a causal"):
        encoder(IDS, adapter_names=["default"])
