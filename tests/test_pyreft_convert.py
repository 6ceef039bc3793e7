"""A converted checkpoint computes what pyreft computed, or is refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from reftune.attached import layers_of
from reftune.pyreft.checkpoints.writing import checkpoint_config, write_checkpoint
from reftune.pyreft.conversion.convert import to_pyreft, to_reftune
from reftune.pyreft.conversion.places import representation_of
from reftune.pyreft.conversion.unstored import Unstored
from tests.adapters import LLAMA, adapted
from tests.pyreft_golden import CASES, CHECKPOINTS, assert_logits, batch_of, build_model
from tests.reference import Edit, Reference
from tests.test_pyreft_checkpoints import SAMPLE
from tests.tiny_models import CAUSAL, ENCODERS, SEQ2SEQ, TinyModel

PLAIN = ("several_components", "bfloat16")  # of different classes, which one adapter has not
ALIKE = [case for case in CASES["checkpoints"] if case["name"] not in PLAIN]
MODELS = {model.name: model for model in (*CAUSAL, *ENCODERS, *SEQ2SEQ)}
TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def prompt_mask(case: dict) -> Tensor:
    mask = batch_of(case)[0]["attention_mask"]
    lengths = torch.tensor(case["prompts"])[:, None]
    return ((mask.cumsum(1) <= lengths) & mask.bool()).long()


def logits_of(model: nn.Module, **inputs) -> Tensor:
    with torch.no_grad():
        return model(**(inputs or {"input_ids": TOKENS})).logits


def saved_base(model, folder: Path) -> str:
    """Write the config of a model alone: no weights are read."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    return str(folder)


def random_state(width: int, rank: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Return a state of LoReFT that changes much."""
    torch.manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(width, rank)).Q.contiguous()
    return {"weight": torch.randn(rank, width), "bias": torch.randn(rank), "rotate_layer": rotation}


def written(folder: Path, places: list[tuple], width: int = 32, rank: int = 2) -> Path:
    """Write a checkpoint with an edit at each place `(layer, component)`."""
    rows = [(layer, component, "pos", 1, rank) for layer, component in places]
    config = checkpoint_config(rows, ["LoreftIntervention"] * len(rows), [width] * len(rows))
    states = {
        key: random_state(width, rank, seed) for seed, key in enumerate(config["sorted_keys"])
    }
    write_checkpoint(folder, config, states)
    return folder


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("case", ALIKE, ids=lambda case: case["name"])
def test_the_adapter_computes_what_pyreft_did(case, with_base, tmp_path):
    model, name = build_model(case["model"]), case["name"]
    base = saved_base(model, tmp_path / "base") if with_base else None
    given = Unstored(case["asked"]["positions"])
    if name == "trainer_classifier" and not with_base:
        with pytest.raises(ValueError, match="holds a classifier: expected its base model"):
            to_reftune(CHECKPOINTS / name, tmp_path / "out", given)
        assert not (tmp_path / "out").exists()
        return
    said = to_reftune(CHECKPOINTS / name, tmp_path / "out", given, base)
    assert any("no base model was given" in line for line in said) == (not with_base)
    assert any("no config.json" in line for line in said) == name.startswith("trainer")
    assert any("went into b" in line for line in said) == (name == "noreft_bias")
    adapter = PeftModel.from_pretrained(model, tmp_path / "out").eval()
    batch, _ = batch_of(case)
    found = logits_of(adapter, **batch, prompt_mask=prompt_mask(case))
    assert_logits(case, found, f"checkpoints/{name}")


@pytest.mark.parametrize("positions", ["f2+l3", "l3", "f1", "all"])
def test_tied_edits_act_by_the_formula(positions, tmp_path):
    folder = written(tmp_path / "in", [(0, "block_output"), (2, "block_output")])
    to_reftune(folder, tmp_path / "out", Unstored(positions))
    edits = {}
    for index, layer in enumerate((0, 2)):
        state = random_state(32, seed=index)
        edit = Edit(state["rotate_layer"].T, state["weight"], state["bias"])
        edits[f"model.layers.{layer}"] = (edit, edit)
    expected = Reference(LLAMA.build(), edits, positions).logits(TOKENS[0].tolist(), 7)
    adapter = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "out").eval()
    torch.testing.assert_close(logits_of(adapter)[0], expected, atol=2e-4, rtol=1e-4)
    assert (expected - logits_of(LLAMA.build())[0]).abs().max() > 0.1


def test_untied_edits_are_the_first_and_then_the_last(tmp_path):
    places = [(0, "block_output"), (2, "block_output")] * 2
    said = to_reftune(written(tmp_path / "in", places), tmp_path / "out", Unstored("f2+l3"))
    assert any("#0 of its first and #1 of its last positions" in line for line in said)
    made = [random_state(32, seed=seed) for seed in range(4)]
    edits = [Edit(one["rotate_layer"].T, one["weight"], one["bias"]) for one in made]
    pairs = {"model.layers.0": (edits[0], edits[2]), "model.layers.2": (edits[1], edits[3])}
    expected = Reference(LLAMA.build(), pairs, "f2+l3").logits(TOKENS[0].tolist(), 7)
    adapter = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "out").eval()
    torch.testing.assert_close(logits_of(adapter)[0], expected, atol=2e-4, rtol=1e-4)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample (set REFTUNE_ASSETS)")
def test_a_published_checkpoint_is_converted_and_comes_back(tmp_path):
    to_reftune(SAMPLE, tmp_path / "adapter", Unstored("f3+l3"))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["layers"], config["tied"], config["r"]) == ([8, 15], False, 2)
    assert (config["hidden_size"], config["num_layers"]) == (2048, None)
    to_pyreft(tmp_path / "adapter", tmp_path / "back")
    for file in SAMPLE.glob("*.bin"):
        one = torch.load(file, weights_only=True)
        two = torch.load(tmp_path / "back" / file.name, weights_only=True)
        assert one.keys() == two.keys()
        for name in one:
            torch.testing.assert_close(two[name], one[name].float(), atol=1e-6, rtol=0)


COMPONENTS = [
    ("llama", "mlp_activation", "layers.1.mlp.act_fn", "output", 48),
    ("llama", "model.layers[1].mlp.act_fn.output", "layers.1.mlp.act_fn", "output", 48),
    ("llama", "mlp_output", "layers.1.mlp", "output", 32),
    ("llama", "mlp_input", "layers.1.mlp", "input", 32),
    ("llama", "attention_output", "layers.1.self_attn", "output", 32),
    ("llama", "attention_input", "layers.1.self_attn", "input", 32),
    ("llama", "attention_value_output", "layers.1.self_attn.o_proj", "input", 32),
    ("llama", "value_output", "layers.1.self_attn.v_proj", "output", 16),
    ("llama", "base_model.model.model.layers[1].output", "layers.1", "output", 32),
    ("llama", "model.layers[1].mlp.down_proj.input", "layers.1.mlp.down_proj", "input", 48),
    ("llama", "layers[1].input", "layers.1", "input", 32),
    ("llama", "model.norm.output", "norm", "output", 32),
    ("gpt2", "block_output", "h.1", "output", 32),
    ("gpt2", "mlp_activation", "h.1.mlp.act", "output", 128),
    ("gpt2", "transformer.h[1].attn.output", "h.1.attn", "output", 32),
    ("gpt_neox", "mlp_output", "layers.1.mlp", "output", 32),
    ("roberta", "roberta.encoder.layer[1].output", "encoder.layer.1", "output", 32),
    ("roberta", "roberta.encoder.layer[1].output.output", "encoder.layer.1.output", "output", 32),
    ("t5", "decoder.block[1].output", "decoder.block.1", "output", 32),
    ("t5", "encoder.block[1].output", "encoder.block.1", "output", 32),
]


@pytest.mark.parametrize(("name", "component", "path", "side", "width"), COMPONENTS)
def test_a_component_is_the_tensor_that_pyvene_edits(name, component, path, side, width, tmp_path):
    architecture: TinyModel = MODELS[name]
    plain = architecture.build()
    folder = written(tmp_path / "in", [(1, component)], width)
    base = saved_base(plain, tmp_path / "base")
    to_reftune(folder, tmp_path / "out", Unstored("all"), base)
    inputs = {"input_ids": TOKENS}
    if name == "t5":
        inputs["decoder_input_ids"] = TOKENS[:, :3]
    found = logits_of(PeftModel.from_pretrained(architecture.build(), tmp_path / "out"), **inputs)
    state = random_state(width)
    R, W, b = state["rotate_layer"].T, state["weight"], state["bias"]

    def edit(h: Tensor) -> Tensor:
        return h + (h @ W.T + b - h @ R.T) @ R

    module = plain.base_model.get_submodule(path)
    if side == "input":
        module.register_forward_pre_hook(
            lambda _, args, kwargs: (
                ((edit(args[0]), *args[1:]), kwargs)
                if args
                else (args, kwargs | {"hidden_states": edit(kwargs["hidden_states"])})
            ),
            with_kwargs=True,
        )
    else:
        module.register_forward_hook(
            lambda _, args, out: edit(out) if isinstance(out, Tensor) else (edit(out[0]), *out[1:])
        )
    torch.testing.assert_close(found, logits_of(plain, **inputs), atol=2e-4, rtol=1e-4)
    assert (found - logits_of(architecture.build(), **inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "name", ["loreft", "noreft", "direft", "direft_orthonormal", "consreft", "lobireft"]
)
def test_an_adapter_goes_to_pyreft_and_comes_back(name, tied, tmp_path):
    model = adapted(intervention=name, tied=tied, positions="f2+l3", layers=[0, -1], r=3)
    model.save_pretrained(tmp_path / "one")
    said = to_pyreft(tmp_path / "one", tmp_path / "pyreft")
    assert f"pass to pyreft: positions f2+l3, share_weights={tied}" in said
    to_reftune(tmp_path / "pyreft", tmp_path / "two", Unstored("f2+l3"))
    again = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "two")
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=1e-4)
    keys = json.loads((tmp_path / "pyreft" / "config.json").read_text())["sorted_keys"]
    assert keys == [
        f"layer_{layer}_comp_block_output_unit_pos_nunit_1#{occurrence}"
        for occurrence in ([0] if tied else [0, 1])
        for layer in (0, 2)
    ]


def test_activation_and_dropout_are_what_is_given_or_what_we_saved(tmp_path):
    model = adapted(layers=[1], act_fn="relu", dropout=0.25, dropout_on="state", positions="l2")
    model.save_pretrained(tmp_path / "one")
    said = to_pyreft(tmp_path / "one", tmp_path / "pyreft")
    assert any("act_fn='relu'" in line for line in said)
    assert any("dropout=0.25" in line for line in said)
    to_reftune(tmp_path / "pyreft", tmp_path / "two", Unstored("l2"))
    again = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "two")
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=1e-4)
    assert again.peft_config["default"].dropout_on == "state"
    with pytest.raises(ValueError, match="says act_fn='relu': got act_fn='gelu'"):
        to_reftune(tmp_path / "pyreft", tmp_path / "three", Unstored("l2", act_fn="gelu"))
    with pytest.raises(ValueError, match=r"says dropout=0.25: got dropout=0.5"):
        to_reftune(tmp_path / "pyreft", tmp_path / "three", Unstored("l2", dropout=0.5))
    config = json.loads((tmp_path / "pyreft" / "config.json").read_text())
    del config["intervention_arguments"]
    (tmp_path / "pyreft" / "config.json").write_text(json.dumps(config))
    said = to_reftune(tmp_path / "pyreft", tmp_path / "three", Unstored("l2"))
    assert "no activation and no dropout: pyreft does not store them" in said
    to_reftune(tmp_path / "pyreft", tmp_path / "four", Unstored("l2", act_fn="relu", dropout=0.5))
    again = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "four")
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=1e-4)
    assert layers_of(again)[0].settings["default"].dropout_on == "state"


def test_a_trained_classifier_goes_both_ways(tmp_path):
    case = next(case for case in ALIKE if case["name"] == "trainer_classifier")
    base = saved_base(build_model("roberta"), tmp_path / "base")
    to_reftune(CHECKPOINTS / case["name"], tmp_path / "one", Unstored("l1"), base)
    said = to_pyreft(tmp_path / "one", tmp_path / "pyreft")
    assert any("include_model=True" in line for line in said)
    one = torch.load(tmp_path / "pyreft" / "pytorch_model.bin", weights_only=True)
    given = CHECKPOINTS / case["name"] / "intervenable_model" / "pytorch_model.bin"
    two = torch.load(given, weights_only=True)
    assert all(torch.equal(one[name], two[name]) for name in {**one, **two})
    assert any("does not know the width of roberta.encoder.layer[1].output" in x for x in said)


@pytest.mark.parametrize(
    ("path", "side", "expected"),
    [
        ("model.layers.8", "output", (8, "block_output")),
        ("transformer.h.3.mlp.act", "output", (3, "mlp_activation")),
        ("model.layers.8.self_attn.o_proj", "input", (8, "attention_value_output")),
        ("model.layers.8.mlp.down_proj", "input", (8, "model.layers[8].mlp.down_proj.input")),
        ("encoder.block.3.layer.0", "output", (3, "encoder.block[3].layer[0].output")),
        ("model.norm", "output", (0, "model.norm.output")),
    ],
)
def test_a_module_is_named_as_in_pyreft(path, side, expected):
    assert representation_of(path, side) == expected


def test_the_tensors_are_those_of_an_adapter_that_peft_saved(tmp_path):
    model = adapted(layers=[0, 2], r=3, positions="f2+l3", tied=False)
    model.save_pretrained(tmp_path / "one")
    to_pyreft(tmp_path / "one", tmp_path / "pyreft")
    to_reftune(tmp_path / "pyreft", tmp_path / "two", Unstored("f2+l3"))
    one, two = (load_file(tmp_path / f / "adapter_model.safetensors") for f in ("one", "two"))
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in two.items()}
