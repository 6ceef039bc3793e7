"""`ReftModel` against the same edits written out: hooks for one row and position at a time."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from reftune import pyreft
from reftune.pyreft.pyvene import CollectIntervention, InterventionOutput
from tests.pyreft_models import (
    IDS,
    LLAMA,
    D,
    at,
    loreft,
    reference,
    run,
    where,
    wrapped,
)


def test_positions_of_every_intervention_and_row():
    reft_model = wrapped(at(0, 0), at(2, 1), at(2, 2))
    made = list(reft_model.interventions.values())
    rows = [[[0, 2], [1, 5]], [[3], [4]], [[3], [0]]]
    got = run(reft_model, unit_locations=where(*rows))
    paths = ["model.layers.0", "model.layers.2", "model.layers.2"]
    torch.testing.assert_close(got, reference(list(zip(paths, rows, made, strict=True))))
    assert (got - run(reft_model, unit_locations=where([[0]], [[0]], [[0]]))).abs().max() > 0.1


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (None, [[0, 1, 2, 3, 4, 5]] * 2),
        ({"sources->base": (None, 4)}, [[4], [4]]),
        ({"base": 4}, [[4], [4]]),
        ({"base": [1, 4]}, [[1, 4], [1, 4]]),
        ({"sources->base": (None, [None])}, [[0, 1, 2, 3, 4, 5]] * 2),
        ({"sources->base": (None, [[[3]]])}, [[3], [3]]),
        ({"sources->base": (None, torch.tensor([[[3], [2]]]))}, [[3], [2]]),
        ({"sources->base": (None, [[torch.tensor([3]), torch.tensor([2])]])}, [[3], [2]]),
        ({"sources->base": ([[[0], [0]]], [[[5, 1], [1, 0]]])}, [[5, 1], [1, 0]]),
    ],
    ids=str,
)
def test_forms_of_unit_locations(given, rows):
    reft_model = wrapped(at(1))
    [one] = reft_model.interventions.values()
    expected = reference([("model.layers.1", rows, one)])
    torch.testing.assert_close(run(reft_model, unit_locations=given), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (where([[0]]), "unit_locations for 1 interventions: expected 2"),
        (where([[0], [1, 2]], [[0], [0]]), "intervention 0: .*: expected batch × positions"),
        (where([[0], [-1]], [[0], [0]]), "counted from 0"),
        (where([[0], [6]], [[0], [0]]), "position 6 in hidden states of 6 tokens"),
        (where([[0], [1], [2]], [[0]]), "of 3 rows for hidden states of 2 rows"),
        ({"sources": 0}, "expected {'sources->base'"),
        (where([0], [1]), "expected batch × positions"),
    ],
    ids=str,
)
def test_wrong_unit_locations_say_what_is_wrong(given, message):
    reft_model = wrapped(at(0), at(1))
    with pytest.raises(ValueError, match=message):
        run(reft_model, unit_locations=given)
    with torch.no_grad():
        assert torch.equal(reft_model.model(IDS).logits, LLAMA.build()(IDS).logits)


def test_return_dict_and_keywords():
    reft_model = wrapped(at(1))
    result = reft_model(
        **{"base": {"input_ids": IDS}, "unit_locations": {"base": 3}, "return_dict": True},
        use_cache=False,
    )
    assert result.original_outputs is None
    assert result["intervened_outputs"].past_key_values is None
    with pytest.raises(ValueError, match="sources: expected none"):
        reft_model({"input_ids": IDS}, [{"input_ids": IDS}], {"base": 3})


def test_subspaces_per_example_and_intervention():
    reft_model = wrapped(at(0, 0), at(2, 1))
    settings = {"unit_locations": where([[5]], [[5]])}
    full = run(reft_model, **settings)
    torch.testing.assert_close(run(reft_model, **settings, subspaces=[0, 1]), full)
    mixed = run(reft_model, **settings, subspaces=[[[0, 1], []], [[0, 1], []]])
    torch.testing.assert_close(mixed[0], full[0])
    torch.testing.assert_close(mixed[1], run(reft_model, **settings, subspaces=[[[]], [[]]])[1])
    with torch.no_grad():
        assert torch.equal(mixed[1], reft_model.model(IDS).logits[1])
    with pytest.raises(ValueError, match="subspaces for 1 interventions: expected 2"):
        run(reft_model, **settings, subspaces=[[[0]]])


class PerExample(pyreft.LoreftIntervention):
    """Subspaces as published notebooks write them."""

    def forward(self, base, source=None, subspaces=None):
        diff = self.act_fn(self.learned_source(base)) - self.rotate_layer(base)
        chosen = torch.stack([diff[i, 0, s].unsqueeze(0) for i, s in enumerate(subspaces)])
        rows = [self.rotate_layer.weight[..., s].T for s in subspaces]
        return self.dropout((base + torch.bmm(chosen, torch.stack(rows))).to(base.dtype))


def test_a_notebooks_subclass_gives_what_our_subspaces_give():
    ours = wrapped(at(1))
    theirs = PerExample(embed_dim=D, low_rank_dimension=2)
    theirs.load_state_dict(loreft().state_dict())
    subclassed = wrapped({"layer": 1, "component": "block_output", "intervention": theirs})
    settings = {"unit_locations": where([[5], [2]]), "subspaces": [[[1], [0]]]}
    torch.testing.assert_close(run(subclassed, **settings), run(ours, **settings))


def test_interventions_of_other_kinds():
    def doubled(base, source):
        return 2 * base

    class Flat(pyreft.ConstantSourceIntervention):
        def forward(self, base, source=None, subspaces=None, scale=1):
            assert base.shape == (2, 2 * D)
            return InterventionOutput(output=scale * base)

    settings = {"unit_locations": {"base": [1, 2]}}
    function = wrapped({"layer": 1, "intervention": doubled})
    flat = wrapped({"layer": 1, "intervention": Flat(embed_dim=2 * D)})
    scaled = run(flat, **settings, intervention_additional_kwargs={"scale": 2})
    torch.testing.assert_close(scaled, run(function, **settings))
    assert (scaled - run(flat, **settings)).abs().max() > 0.01
    collecting = wrapped({"layer": 1, "intervention": CollectIntervention()})
    (original, [kept]), outputs = collecting({"input_ids": IDS}, **settings)
    hidden = collecting.model(IDS, output_hidden_states=True).hidden_states[2]
    assert original is None
    assert torch.equal(kept, hidden[:, [1, 2]])
    with torch.no_grad():
        assert torch.equal(outputs.logits, collecting.model(IDS).logits)


def test_an_intervention_made_from_its_type():
    config = pyreft.ReftConfig(
        representations=[{"layer": 1, "component": "mlp_activation", "low_rank_dimension": 3}],
        intervention_types=pyreft.LoreftIntervention,
    )
    reft_model = pyreft.get_reft_model(LLAMA.build(), config)
    [one] = reft_model.interventions.values()
    assert (one.width, one.rank) == (48, 3)
    run(reft_model, unit_locations={"base": 1})


def test_the_counts_of_the_tutorial(capsys):
    tiny_llama = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(tiny_llama)
    one = pyreft.LoreftIntervention(embed_dim=2048, low_rank_dimension=4)
    config = pyreft.ReftConfig(
        representations={
            "layer": 8,
            "component": "block_output",
            "low_rank_dimension": 4,
            "intervention": one,
        }
    )
    pyreft.get_reft_model(model, config).print_trainable_parameters()
    assert capsys.readouterr().out == (
        "trainable intervention params: 16,388 || trainable model params: 0\n"
        "model params: 1,100,048,384 || trainable%: 0.001489752654370519\n"
    )


def test_keys_and_what_older_versions_called_them():
    path = "model.layers[2].output"
    reft_model = wrapped(at(1), at(1, 1), {"component": path, "intervention": loreft(2)})
    keys = list(reft_model.interventions)
    assert keys == reft_model.sorted_keys
    assert keys == [
        "layer_1_comp_block_output_unit_pos_nunit_1#0",
        "layer_1_comp_block_output_unit_pos_nunit_1#1",
        "comp_model_layers[2]_output_unit_pos_nunit_1#0",
    ]
    older = "layer.1.comp.block_output.unit.pos.nunit.1#1"
    assert older in reft_model.interventions
    assert reft_model.interventions[older][0] is reft_model.interventions[keys[1]]
    assert reft_model.interventions["comp.model.layers[2].output.unit.pos.nunit.1#0"].width == D


def test_what_scripts_assign_and_read():
    reft_model = wrapped(at(1))
    assert reft_model.device == reft_model.get_device() == torch.device("cpu")
    reft_model.device = reft_model.dtype = "anything"
    reft_model.config = reft_model.model.config
    assert reft_model.device == "anything"
    run(reft_model, unit_locations={"base": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer": 3}, "layer 3 of 3"),
        ({"component": "block"}, "component 'block': expected one of block_input"),
        ({"component": "model.layers[7].output"}, "has no '7' there"),
        ({"component": "model.layers[1].mlp"}, "ends in .output or .input"),
        ({"component": "model.rope.output"}, "has no 'rope' there"),
        ({"unit": "h.pos"}, "unit 'h.pos'"),
        ({"rank": 4}, r"a representation has \['rank'\]"),
        ({"intervention_type": pyreft.LoreftIntervention}, "expected one of them"),
    ],
    ids=str,
)
def test_wrong_representations_say_what_is_wrong(fields, message):
    model = LLAMA.build()
    with pytest.raises(ValueError, match=message):
        wrapped(at(0), {**at(1), **fields}, model=model)
    assert all(not module._forward_hooks for module in model.modules())


def test_an_intervention_of_another_width_says_what_is_wrong():
    one = pyreft.LoreftIntervention(embed_dim=16, low_rank_dimension=2)
    model = LLAMA.build()
    with pytest.raises(ValueError, match=r"embed_dim=16\).*: expected embed_dim=32"):
        wrapped({"layer": 1, "intervention": one}, model=model)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda reft_model: reft_model(IDS), "base is Tensor: expected the model's inputs"),
        (lambda reft_model: run(reft_model, subspaces=[[0, 1]]), "expected batch × indices"),
        (lambda _: pyreft.get_reft_model(LLAMA.build(), None), "expected a ReftConfig"),
        (lambda _: pyreft.get_reft_model("model", None), "expected a model first"),
        (lambda _: wrapped({"intervention": pyreft.LoreftIntervention}), "is a class"),
        (lambda _: wrapped(at("1")), "layer '1'"),
    ],
)
def test_wrong_input_says_what_is_wrong(act, message):
    with pytest.raises(ValueError, match=message):
        act(wrapped(at(1)))
