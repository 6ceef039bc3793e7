"""`ReftModel` against the same edits written out: hooks for one row and position at a time."""

import copy
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, TextStreamer

from reftune import pyreft
from reftune.pyreft.pyvene import CollectIntervention, InterventionOutput
from tests.tiny_models import CAUSAL, ENCODERS, SEQ2SEQ

D = 32
LLAMA = CAUSAL[0]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
GREEDY = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def loreft(seed: int = 0, rank: int = 2, **settings) -> nn.Module:
    torch.manual_seed(seed)
    made = pyreft.LoreftIntervention(embed_dim=D, low_rank_dimension=rank, **settings)
    nn.init.normal_(made.learned_source.weight, std=0.7)
    nn.init.normal_(made.learned_source.bias, std=2)
    return made


def at(layer: int, seed: int = 0, **fields) -> dict:
    return {"layer": layer, "component": "block_output", "intervention": loreft(seed), **fields}


def wrapped(*representations: dict, model: nn.Module | None = None) -> pyreft.ReftModel:
    config = pyreft.ReftConfig(representations=list(representations))
    return pyreft.get_reft_model(model or LLAMA.build(), config).eval()


def where(*places: list) -> dict:
    return {"sources->base": (None, list(places))}


def reference(edits: list[tuple[str, list[list[int]], nn.Module]], ids: Tensor = IDS) -> Tensor:
    """Return logits of the base model with edits of (path, positions of each row, intervention)."""
    model = LLAMA.build()
    for path, rows, one in edits:

        def hook(module, args, output, rows=rows, one=one):
            hidden = (output if isinstance(output, Tensor) else output[0]).clone()
            R = one.rotate_layer.weight.T
            W, b = one.learned_source.weight, one.learned_source.bias
            for row, places in enumerate(rows):
                states = {place: hidden[row, place].clone() for place in places}
                for place, h in states.items():
                    hidden[row, place] = h + R.T @ (W @ h + b - R @ h)
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def run(reft_model: pyreft.ReftModel, ids: Tensor = IDS, **settings) -> Tensor:
    with torch.no_grad():
        return reft_model({"input_ids": ids}, **settings)[1].logits


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


def continuation(reft_model: pyreft.ReftModel, ids: Tensor = IDS, **settings) -> Tensor:
    _, out = reft_model.generate({"input_ids": ids, "attention_mask": ids * 0 + 1}, **settings)
    return out[:, ids.shape[1] :]


def greedy_by_hand(one: nn.Module, steps: int, places: list[int], generated: bool) -> Tensor:
    """Return what greedy decoding without a cache gives, for every row alone."""
    rows = []
    for row in IDS:
        tokens = row.tolist()
        for _ in range(steps):
            edited = places + (list(range(len(row), len(tokens))) if generated else [])
            ids = torch.tensor([tokens])
            logits = reference([("model.layers.1", [edited], one)], ids)
            tokens.append(int(logits[0, -1].argmax()))
        rows.append(tokens[len(row) :])
    return torch.tensor(rows)


@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"prefill_chunk_size": 2}], ids=str)
@pytest.mark.parametrize(
    ("settings", "places", "generated"),
    [
        ({"unit_locations": where([[1, 5]]), "intervene_on_prompt": True}, [1, 5], False),
        ({"intervene_on_prompt": False}, [], True),
        ({"unit_locations": {"base": 0}}, [], True),
        ({"unit_locations": None, "intervene_on_prompt": True}, list(range(6)), True),
    ],
    ids=str,
)
def test_generation(settings, places, generated, cache):
    reft_model = wrapped(at(1))
    [one] = reft_model.interventions.values()
    got = continuation(reft_model, **settings, **GREEDY, **cache)
    assert torch.equal(got, greedy_by_hand(one, 5, places, generated))
    assert not torch.equal(got, reft_model.model.generate(IDS, **GREEDY)[:, 6:])


def test_beams_share_the_positions_of_their_row():
    reft_model = wrapped(at(1))
    settings = {**GREEDY, "num_beams": 3, "intervene_on_prompt": True}
    together = continuation(reft_model, unit_locations=where([[1], [4]]), **settings)
    repeated = where([[1], [1], [1], [4], [4], [4]])
    assert torch.equal(together, continuation(reft_model, unit_locations=repeated, **settings))
    for row, place in enumerate([1, 4]):
        alone = continuation(
            reft_model, IDS[row : row + 1], unit_locations=where([[place]]), **settings
        )
        assert torch.equal(together[row : row + 1], alone)


def test_a_position_beyond_the_prompt_is_an_error_in_generation():
    reft_model = wrapped(at(1))
    with pytest.raises(ValueError, match="position 6 in hidden states of 6 tokens"):
        continuation(reft_model, unit_locations={"base": 6}, intervene_on_prompt=True, **GREEDY)
    with pytest.raises(ValueError, match="intervene_on_prompt=False, which edits"):
        continuation(reft_model, unit_locations={"base": 2}, **GREEDY)


def test_a_streamer_sees_the_tokens(capsys):
    class Letters:
        def decode(self, ids, **settings):
            return " ".join(map(str, torch.as_tensor(ids).tolist()))

    reft_model = wrapped(at(1))
    out = continuation(reft_model, IDS[:1], streamer=TextStreamer(Letters()), **GREEDY)
    assert capsys.readouterr().out.split() == list(map(str, IDS[0].tolist() + out[0].tolist()))


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


def test_an_encoder_and_a_decoder():
    model = SEQ2SEQ[0].build()
    reft_model = wrapped(
        {"component": "encoder.block.1.output", "intervention": loreft(0)},
        {"component": "decoder.block[1].output", "intervention": loreft(1)},
        model=model,
    )
    settings = {"unit_locations": where([[5]], [[0]]), "intervene_on_prompt": True, **GREEDY}
    _, out = reft_model.generate({"input_ids": IDS, "attention_mask": IDS * 0 + 1}, **settings)
    _, slow = reft_model.generate(
        {"input_ids": IDS, "attention_mask": IDS * 0 + 1}, use_cache=False, **settings
    )
    assert torch.equal(out, slow)
    assert not torch.equal(out, model.generate(IDS, **GREEDY))


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


def test_one_intervention_at_several_layers_is_counted_once():
    shared = loreft()
    reft_model = wrapped(*[{"layer": layer, "intervention": shared} for layer in (0, 1)])
    linked = wrapped(*[at(layer, intervention_link_key=7) for layer in (0, 1)])
    alone = wrapped(at(0))
    assert reft_model.count_parameters() == linked.count_parameters() == alone.count_parameters()
    assert len(reft_model.get_trainable_parameters()) == 3


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


def test_a_call_within_a_call_leaves_the_outer_one_as_it_was():
    class Asking(LogitsProcessor):
        def __call__(self, ids, scores):
            reft_model({"input_ids": ids}, unit_locations={"base": 0})
            return scores

    reft_model = wrapped(at(1))
    settings = {"intervene_on_prompt": False, **GREEDY}
    asked = continuation(reft_model, logits_processor=[Asking()], **settings)
    assert torch.equal(asked, continuation(reft_model, **settings))


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


def test_threads_do_not_get_each_others_edits():
    reft_model = wrapped(at(1))

    def answer(place: int) -> list:
        places = {"unit_locations": {"base": place}, "intervene_on_prompt": True}
        return continuation(reft_model, **places, **{**GREEDY, "max_new_tokens": 12}).tolist()

    alone = [answer(place % 6) for place in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(answer, [place % 6 for place in range(12)])) == alone


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
    ids=str,
)
def test_wrong_input_says_what_is_wrong(act, message):
    with pytest.raises(ValueError, match=message):
        act(wrapped(at(1)))
