"""Every row of a batch has its own adapter, and comes out as if it had been alone with it."""

from functools import partial

import pytest
import torch
from peft import get_peft_model
from torch import nn

from reftune import INTERVENTIONS, ReftConfig
from reftune.attached import layers_of, planners_of
from tests.adapters import GREEDY, IDS, PROMPTS, adapted, logits, padded, shake
from tests.mixed_batches import NAMES, check_mixed, row_by_row, with_adapters
from tests.tiny_models import CAUSAL, ENCODERS, VISION

OTHER = {"other": {"layers": [1], "r": 2, "positions": "f1+l2"}}
LAYOUTS = {
    "slots": {"positions": "f2+l2"},
    "untied": {"positions": "f1+l2", "tied": False},
    "all": {"positions": "all"},
    "untied, decoding": {"positions": "f1+l2", "tied": False, "decode": "all"},
    "steps": {"positions": "l2", "decode": 2},
    "heads": {"component": "attention_value_output", "heads": [0, 2]},
    "untied heads": {"component": "attention_value_output", "heads": [1, 3], "tied": False},
    "untied heads, decoding": {
        "component": "attention_value_output",
        "heads": [1, 3],
        "tied": False,
        "decode": "all",
    },
    "input": {"component": "block_input"},
    "activation": {"act_fn": "relu"},
}


@pytest.fixture
def called(monkeypatch):
    """The shapes of the states that LoReFT edits."""
    shapes = []
    forward = INTERVENTIONS["loreft"].forward

    def watched(edit, h, *prepared):
        shapes.append(tuple(h.shape))
        return forward(edit, h, *prepared)

    monkeypatch.setattr(INTERVENTIONS["loreft"], "forward", watched)
    return shapes


@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_rows_of_every_architecture(architecture):
    check_mixed(with_adapters(architecture, others=OTHER))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_of_every_layout(layout):
    check_mixed(with_adapters(others=OTHER, layers=[0, 2], r=3, **layout))


@pytest.mark.parametrize("layout", ["slots", "untied", "all"])
@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_rows_of_every_intervention(intervention, layout):
    fields = LAYOUTS[layout] | {"intervention": intervention, "layers": [0, 2]}
    check_mixed(with_adapters(others=OTHER, **fields), atol=2e-3)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_generated_tokens(layout, beams):
    model = with_adapters(others=OTHER, layers=[0, 2], **layout)
    inputs = padded(PROMPTS, "left")
    generate = partial(model.generate, num_beams=beams, **GREEDY)
    got = generate(**inputs, adapter_names=NAMES)
    for row, name in enumerate(NAMES):
        alone = {key: value[row : row + 1] for key, value in inputs.items()}
        expected = generate(**alone, adapter_names=[name])
        assert got[row].tolist() == expected[0].tolist()
        if name != "__base__":
            model.set_adapter(name)
            assert got[row].tolist() == generate(**alone)[0].tolist()


@pytest.mark.parametrize("layout", ["slots", "untied heads", "all"])
def test_alike_adapters_are_one_call_per_layer(layout, called):
    names = tuple("abcdghij")
    model = with_adapters(names=names, layers=[0, 2], **LAYOUTS[layout])
    called.clear()
    logits(model, input_ids=IDS.repeat(8, 1), adapter_names=names[::-1])
    assert [shape[0] for shape in called] == [8, 8]
    model.generate(IDS.repeat(8, 1), adapter_names=names, **GREEDY)
    assert len(called) == 4  # none in the steps after the prompt
    (planner,) = planners_of(model)
    assert planner.idle


def test_unlike_adapters_are_calls_of_their_own(called):
    others = {
        "rank": {"r": 3},
        "positions": {"positions": "l1"},
        "dropout": {"dropout": 0.1},
        "dtype": {"dtype": "float64"},
        "activation": {"act_fn": "relu"},
    }
    model = with_adapters(
        others={name: {"layers": [1], **o} for name, o in others.items()}, layers=[1]
    )
    called.clear()
    names = ["a", *others, "b", "a"]
    logits(model, input_ids=IDS.repeat(len(names), 1), adapter_names=names)
    assert sorted(shape[0] for shape in called) == [1] * len(others) + [3]


class NoStack(nn.Module):
    """`h + v`"""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, h):
        return h + self.weight


@pytest.mark.parametrize("positions", ["f2+l1", "all"])
def test_an_intervention_that_takes_no_stack(monkeypatch, positions):
    monkeypatch.setitem(INTERVENTIONS, "mine", NoStack)
    model = with_adapters(others=OTHER, layers=[0, 1], intervention="mine", positions=positions)
    check_mixed(model)


@pytest.mark.parametrize("intervention", ["loreft", "direft"])
@pytest.mark.parametrize("change", ["step", "load", "data", "add again"])
def test_kept_parameters_are_refreshed(change, intervention):
    model = with_adapters(layers=[0], positions="l2", intervention=intervention)
    names = ["a", "b", "b", "a", "b"]
    before = logits(model, **padded(PROMPTS, "left"), adapter_names=names)
    again = logits(model, **padded(PROMPTS, "left"), adapter_names=names)
    assert torch.equal(before, again)
    edit = layers_of(model)[0].reft_edits["b"]
    if change == "step":
        for parameter in edit.parameters():
            parameter.grad = torch.randn_like(parameter)
        torch.optim.SGD(edit.parameters(), lr=0.5).step()
    elif change == "load":
        edit.load_state_dict({name: 2 * p for name, p in edit.state_dict().items()})
    elif change == "data":
        edit.bias.data = edit.bias.data + 1
    else:
        model.delete_adapter("b")
        model.add_adapter("b", ReftConfig(layers=[0], positions="l2", intervention=intervention))
        shake(model, "b", seed=9)
    after = logits(model, **padded(PROMPTS, "left"), adapter_names=names)
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])
    check_mixed(model, names)


def test_only_what_the_last_batch_had_is_kept_joined():
    model = with_adapters(names=("a", "b", "c"), layers=[0])
    for names in (["a", "b"], ["b", "c"], ["c", "b"], ["a", "a"], ["b", "b"]):
        logits(model, input_ids=IDS.repeat(2, 1), adapter_names=names)
        torch.testing.assert_close(
            logits(model, input_ids=IDS.repeat(2, 1), adapter_names=names),
            row_by_row(model, names, input_ids=IDS.repeat(2, 1)),
        )
    (planner,) = planners_of(model)
    assert {names for names in planner.rotations._kept if len(names) > 1} == set()
    model.delete_adapter("a")
    assert not any("a" in names for names in planner.rotations._kept)


def test_parameters_that_are_elsewhere_are_not_joined(called):
    model = with_adapters(layers=[0])
    called.clear()
    for name in ("a", "b"):
        layers_of(model)[0].reft_edits[name].weight.ds_id = 0  # as ZeRO marks what it has put away
    logits(model, input_ids=IDS.repeat(3, 1), adapter_names=["a", "b", "a"])
    assert sorted(shape[0] for shape in called) == [1, 2]


def test_a_forward_that_was_put_on_an_edit_is_not_that_of_all():
    model = with_adapters(layers=[0], positions="l2")
    for name in ("a", "b"):  # as accelerate does
        edit = layers_of(model)[0].reft_edits[name]
        edit.forward = edit.forward
    check_mixed(model, ["a", "b", "b", "a", "b"])


def test_compiled_rows():
    model = with_adapters(others=OTHER, layers=[0, 1])
    inputs = padded(PROMPTS, "left") | {"adapter_names": NAMES}
    expected = logits(model, **inputs)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(logits(compiled, **inputs), expected, atol=1e-5, rtol=1e-4)


def test_names_of_no_adapter_and_too_few_names_are_refused():
    model = adapted(layers=[0])
    with pytest.raises(ValueError, match=r"\['other'\]: expected names out of __base__, default"):
        model(input_ids=IDS, adapter_names=["other"])
    for names, rows in ((["default"] * 2, 1), (["default"] * 2, 4)):
        with pytest.raises(ValueError, match=f"2 adapter_names for {rows} rows"):
            model(input_ids=IDS.repeat(rows, 1), adapter_names=names)


def test_every_row_has_the_head_of_its_adapter_too():
    config = {"layers": [0], "positions": "f1", "task_type": "SEQ_CLS"}
    model = get_peft_model(ENCODERS[0].build(), ReftConfig(**config)).eval()
    model.add_adapter("other", ReftConfig(**config))
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            nn.init.normal_(parameter)
    inputs, names = padded(PROMPTS, "right"), ["other", "default", "other", "default", "default"]
    got = logits(model, **inputs, adapter_names=names)
    expected = row_by_row(model, names, **inputs)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", ["f1+l2", "all"])
def test_pictures(positions):
    config = ReftConfig(layers=[0, 2], positions=positions)
    model = get_peft_model(VISION[0].build(), config, adapter_name="a").eval()
    model.add_adapter("b", config)
    for seed, name in enumerate(("a", "b")):
        shake(model, name, seed)
    names, pixels = ["a", "b", "__base__", "a"], torch.randn(4, 3, 16, 16)
    got = logits(model, pixel_values=pixels, adapter_names=names)
    expected = row_by_row(model, names, pixel_values=pixels)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
