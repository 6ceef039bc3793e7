"""The orthonormal rows of all edits are computed at once, and kept while nothing is trained."""

import copy

import pytest
import torch

from reftune import ReftConfig, rotations
from reftune.attached import layers_of, planners_of
from reftune.interventions import INTERVENTIONS
from reftune.orthonormal import orthonormal
from reftune.plan import Slots
from reftune.reuse import without_reuse
from tests.adapters import GREEDY, IDS, adapted, logits

LABELS = IDS.masked_fill(torch.arange(IDS.shape[1]) < 4, -100)
ROTATED = ["loreft", "direft_orthonormal", "consreft", "lobireft"]


@pytest.fixture
def computed(monkeypatch):
    """The shapes of what is orthonormalised."""
    shapes = []

    def watched(free):
        shapes.append(tuple(free.shape))
        return orthonormal(free)

    monkeypatch.setattr(rotations, "orthonormal", watched)
    monkeypatch.setattr("reftune.interventions.orthonormal", watched)
    return shapes


def step(model) -> None:
    model.train()
    with without_reuse():
        model(IDS, labels=LABELS).loss.backward()


@pytest.mark.parametrize("intervention", ROTATED)
def test_a_training_step_computes_all_layers_at_once(intervention, computed):
    model = adapted(intervention=intervention, positions="f2+l2", r=3)
    computed.clear()
    step(model)
    assert computed == [(3, 3, 32)]


def test_edits_of_other_shapes_are_computed_apart(computed):
    model = adapted(layers=[0], r=3)
    model.add_adapter("other", ReftConfig(layers=[1], r=2))
    model.base_model.set_adapter(["default", "other"])
    computed.clear()
    step(model)
    assert sorted(computed) == [(1, 2, 32), (1, 3, 32)]


def test_what_is_not_trained_is_kept(computed):
    model = adapted(positions="f2+l2")
    computed.clear()
    first = logits(model)
    assert torch.equal(logits(model), first)
    model.generate(IDS, **GREEDY)
    assert len(computed) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda edit: edit.weight.add_(0.1 * torch.randn_like(edit.weight)),
        lambda edit: edit.source.mul_(2),
        lambda edit: setattr(edit.source, "data", 2 * edit.source),
        lambda edit: edit.load_state_dict({n: 2 * p for n, p in edit.state_dict().items()}),
    ],
    ids=["R", "W", "data", "load"],
)
def test_a_change_is_seen(change):
    model = adapted(positions="l2")
    before = logits(model)
    with torch.no_grad():
        change(layers_of(model)[0].reft_edits["default"])
    after = logits(model)
    assert not torch.equal(after, before)
    with torch.enable_grad():  # where nothing is kept
        torch.testing.assert_close(model(IDS).logits, after)


def test_a_model_is_copied_after_a_training_step_and_trains_on():
    model = adapted(positions="l2")
    step(model)
    copied = copy.deepcopy(model)
    for one in (model, copied):
        one.zero_grad()
        step(one)
    for one, other in zip(model.parameters(), copied.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            assert torch.equal(one.grad, other.grad)


def test_a_parameter_that_is_elsewhere_is_left_to_its_edit(computed):
    model = adapted(positions="l2")
    for layer in layers_of(model):
        layer.reft_edits["default"].weight.ds_id = 0  # as ZeRO marks what it has put away
    computed.clear()
    step(model)
    assert computed == [(4, 32)] * 3


def test_a_removed_adapter_is_forgotten():
    model = adapted(positions="l2")
    model.add_adapter("other", ReftConfig(layers=[1]))
    model.delete_adapter("other")
    [planner] = planners_of(model)
    assert list(planner.rotations._edits) == ["default"]


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("component", ["block_output", "attention_output", "mlp_activation"])
def test_checkpointed_layers_have_the_same_gradients(component, reentrant):
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model = adapted(positions="f1+l2", component=component)
        model.enable_input_require_grads()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        step(model)
        return [p.grad for name, p in model.named_parameters() if "reft_edits" in name]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ROTATED)
def test_what_was_prepared_changes_nothing(name):
    torch.manual_seed(0)
    edit = INTERVENTIONS[name](8, 2, (2,))
    h = torch.randn(3, 2, 5, 8)
    prepared = edit.prepare(orthonormal(edit.weight))
    assert torch.equal(edit(h, *prepared), edit(h))


@pytest.mark.parametrize(
    "index",
    [[[0, 2], [6, 7]], [[0, 2], [10, 7]], [[10, 10], [6, 10]], [[10, 10], [10, 10]]],
    ids=["full", "one empty", "a row empty", "all empty"],
)
def test_slots_edit_and_differentiate_as_one_token_at_a_time(index):
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, 3, requires_grad=True)
    scale = torch.randn(3, requires_grad=True)
    after = Slots(torch.tensor(index), 10).edit(hidden, lambda state: state * scale + 1)
    rows = list(hidden.view(10, 3).unbind())
    for place in {place for row in index for place in row if place < 10}:
        rows[place] = rows[place] * scale + 1
    expected = torch.stack(rows).view(2, 5, 3)
    assert torch.equal(after, expected)
    weights = torch.randn(2, 5, 3)
    got = torch.autograd.grad((after * weights).sum(), (hidden, scale))
    wanted = torch.autograd.grad((expected * weights).sum(), (hidden, scale), allow_unused=True)
    torch.testing.assert_close(got[0], wanted[0])
    torch.testing.assert_close(got[1], torch.zeros(3) if wanted[1] is None else wanted[1])
