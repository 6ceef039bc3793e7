"""A site is the tensor that its name says, in every architecture that has it."""

import copy
import warnings

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel

from reftune import ReftConfig
from reftune.architectures import ARCHITECTURES, COMPONENTS
from reftune.attached import layers_of
from reftune.sites import find_sites
from tests.tiny_models import CAUSAL, ENCODERS, SEQ2SEQ, VISION, TinyModel

ALL = [*CAUSAL, *ENCODERS, *SEQ2SEQ, *VISION]
IDS = torch.tensor([[5, 6, 7, 8, 9]])
# Where the parts of a layer are, as transformers has them: not taken from the table under test.
PLACES = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "olmo2"),
        ("model.layers.1", "self_attn.o_proj", "mlp.down_proj"),
    ),
    "qwen3_moe": ("model.layers.1", "self_attn.o_proj", "mlp"),
    "gpt2": ("transformer.h.1", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers.1", "attention.dense", "mlp.dense_4h_to_h"),
    "opt": ("model.decoder.layers.1", "self_attn.out_proj", "fc2"),
    "falcon": ("transformer.h.1", "self_attention.dense", "mlp.dense_4h_to_h"),
    "mpt": ("transformer.blocks.1", "attn.out_proj", "ffn.down_proj"),
    "bert": ("bert.encoder.layer.1", "attention.output.dense", "output.dense"),
    "roberta": ("roberta.encoder.layer.1", "attention.output.dense", "output.dense"),
    "deberta_v2": ("deberta.encoder.layer.1", "attention.output.dense", "output.dense"),
    "modernbert": ("model.layers.1", "attn.Wo", "mlp.Wo"),
    "t5": ("decoder.block.1", "layer.0.SelfAttention.o", "layer.2.DenseReluDense.wo"),
}


def inputs_of(architecture: TinyModel) -> dict:
    if architecture.name == "vit":
        return {"pixel_values": torch.ones(1, 3, 16, 16)}
    if architecture.name == "t5":
        return {"input_ids": IDS, "decoder_input_ids": torch.tensor([[0, 3, 4]])}
    return {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def steered(model: nn.Module, **config) -> nn.Module:
    """Attach steering vectors that push hard, everywhere."""
    config = {"layers": [1], "intervention": "steering_vector", "positions": "all", **config}
    model = get_peft_model(model, ReftConfig(**config)).eval()
    for layer in layers_of(model):
        torch.manual_seed(1)
        nn.init.normal_(layer.reft_edits["default"].weight, std=3)
    return model


def by_hand(model: nn.Module, path: str, side: str, vector: torch.Tensor) -> None:
    """Add a vector to what goes into or comes out of a module."""
    if side == "input":
        model.get_submodule(path).register_forward_pre_hook(
            lambda module, args: (args[0] + vector, *args[1:])
        )
        return

    def add(module, args, output):
        return output + vector if torch.is_tensor(output) else (output[0] + vector, *output[1:])

    model.get_submodule(path).register_forward_hook(add)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("name", PLACES)
def test_components_are_the_tensors_that_they_are_called(name, component):
    architecture = next(row for row in ALL if row.name == name)
    if component not in ("block_output", "block_input", *architecture.components):
        pytest.skip(f"{name} has no {component}")
    base = architecture.build()
    other = copy.deepcopy(base)
    model = steered(base, component=f"decoder.{component}" if name == "t5" else component)
    layer, attention, mlp = PLACES[name]
    part = {"a": f"{layer}.{attention}", "m": f"{layer}.{mlp}", "b": layer}[component[0]]
    side = "output" if component in ("block_output", "attention_output", "mlp_output") else "input"
    by_hand(other, part, side, layers_of(model)[0].reft_edits["default"].weight.detach())
    with torch.no_grad():
        inputs = inputs_of(architecture)
        torch.testing.assert_close(model(**inputs).logits, other(**inputs).logits)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_row_of_the_table_fits_its_model_type(model_type):
    """On the meta device with few layers: the named modules exist, and are as wide as they say."""
    config = AutoConfig.for_model(model_type)
    text = config.get_text_config()
    text.num_hidden_layers = 2
    for name in ("layer_types", "mlp_layer_types"):
        if getattr(text, name, None):
            setattr(text, name, getattr(text, name)[:2])
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_config(config)
    for stack, row in ARCHITECTURES[model_type].items():
        for component, (fields, _) in COMPONENTS.items():
            if not fields or any(getattr(row, field) for field in fields):
                named = f"{stack}.{component}" if stack else component
                sites = find_sites(model, ReftConfig(component=named))
                assert sites
                if component not in ("mlp_activation", "attention_value_output"):
                    assert {site.width for site in sites} == {text.hidden_size}


def test_the_table_has_every_architecture_under_test():
    types = {architecture.build().config.get_text_config().model_type for architecture in ALL}
    assert types <= set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ("self_attn.q_proj", "model.layers.1.self_attn.q_proj"),
        ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("self_attn.q_proj.input", "model.layers.1.self_attn.q_proj"),
        ("model.norm", "model.norm"),
    ],
)
def test_any_module_can_be_named(component, path):
    base = CAUSAL[0].build()
    other = copy.deepcopy(base)
    whole = base.get_submodule(path) if component.startswith("model.") else None
    model = steered(base, component=component, layers=[1] if whole is None else "all")
    (layer,) = layers_of(model)
    assert layer.settings["default"].site.module == path
    vector = layer.reft_edits["default"].weight.detach()
    by_hand(other, path, "input" if component.endswith("input") else "output", vector)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, other(IDS).logits)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("component", ["attention_value_output", "self_attn.q_proj"])
def test_heads_have_edits_of_their_own(component, tied):
    base = CAUSAL[0].build()
    config = {"component": component, "heads": [0, 3], "positions": "f2+l2", "tied": tied}
    seen = {}
    model = steered(base, **config)
    (layer,) = layers_of(model)
    weight = layer.reft_edits["default"].weight.detach()
    assert weight.shape == ((2, 8) if tied else (2, 2, 8))
    assert layer.settings["default"].site.heads == 4

    def keep(name):
        def hook(module, args, output):
            seen[name] = (args[0] if component == "attention_value_output" else output).clone()

        return hook

    module = base.model.layers[1].self_attn
    module = module.o_proj if component == "attention_value_output" else module.q_proj
    with torch.no_grad():
        handle = module.register_forward_hook(keep("edited"))
        model(IDS)
        handle.remove()
        module.register_forward_hook(keep("plain"))
        with model.disable_adapter():
            model(IDS)
    added = (seen["edited"] - seen["plain"])[0].unflatten(-1, (4, 8))
    expected = torch.zeros(5, 4, 8)
    for place, head in enumerate((0, 3)):
        first, last = (weight[place],) * 2 if tied else (weight[0, place], weight[1, place])
        expected[:2, head], expected[3:, head] = first, last
    # Only the first edited layer is compared: nothing below it can have changed.
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-5)


class Unknown(nn.Module):
    """Not a transformers model at all."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(96, 32)
        self.stages = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.config = None

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embedding(input_ids)
        for stage in self.stages:
            hidden = stage(hidden)
        return hidden


def test_a_model_of_no_known_kind_is_edited_by_path():
    torch.manual_seed(0)
    base = Unknown()
    plain = base(IDS)
    model = steered(base, component="stages.0", positions="l1", layers="all")
    edited = model(input_ids=IDS)
    assert torch.equal(edited[0, :-1], plain[0, :-1])
    assert not torch.allclose(edited[0, -1], plain[0, -1])


def test_an_unknown_type_has_blocks_if_its_layers_can_be_found(monkeypatch):
    monkeypatch.delitem(ARCHITECTURES, "llama")
    model = CAUSAL[0].build()
    sites = find_sites(model, ReftConfig(layers=[-1]))
    assert [site.module for site in sites] == ["model.layers.2"]
    with pytest.raises(ValueError, match="dotted module path"):
        find_sites(model, ReftConfig(component="mlp_output"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": [40]}, "layer 40 of 3"),
        ({"layers": [-4]}, "layer -4 of 3"),
        ({"layers": [0, -3]}, "at most once"),
        ({"component": "block_outputs"}, "'block_outputs': expected one of"),
        ({"component": "decoder.block_output"}, "has no decoder layers"),
        ({"component": "model.layers"}, "container"),
        ({"component": "attention_value_output", "heads": [4]}, r"heads=\[4\].*below 4"),
        ({"component": "model.norm", "layers": [1]}, r"layers=\[1\]: expected none"),
        ({"r": 33}, "r=33: expected at most 32"),
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused_and_leaves_it_alone(fields, message):
    model = CAUSAL[0].build()
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, ReftConfig(**fields))
    assert [name for name, _ in model.named_modules()] == names
    assert "generate" not in vars(model)
    assert not model._forward_pre_hooks
    assert all(p.requires_grad for p in model.parameters())


def test_an_encoder_with_a_decoder_asks_which():
    with pytest.raises(ValueError, match=r'"encoder.block_output" or "decoder.block_output"'):
        get_peft_model(SEQ2SEQ[0].build(), ReftConfig())
