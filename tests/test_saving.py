"""What is saved is the adapter, whole and alone, and loads to the same bits."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from reftune import INTERVENTIONS, ReftConfig
from reftune.attached import layers_of
from tests.adapters import (
    LLAMA,
    adapted,
    build,
    logits,
)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_saved_and_loaded_runs_to_the_same_bits_and_saves_the_same_bytes(name, tied, tmp_path):
    model = adapted(intervention=name, tied=tied, positions="f2+l3", decode=2, layers=[0, -1])
    model.save_pretrained(tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    again = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "one")
    assert torch.equal(logits(again), logits(model))
    again.save_pretrained(tmp_path / "two")
    one, two = ((tmp_path / f / "adapter_model.safetensors").read_bytes() for f in ("one", "two"))
    assert one == two
    stored = [
        json.loads((tmp_path / f / "adapter_config.json").read_text()) for f in ("one", "two")
    ]
    assert stored[0] | {"inference_mode": None} == stored[1] | {"inference_mode": None}
    assert stored[0]["layers"] == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_edits_keep_their_precision_whatever_the_model_is_cast_to(dtype, tmp_path):
    model = adapted(layers=[1])
    weight = layers_of(model)[0].reft_edits["default"].weight.clone()
    model.to(dtype)
    kept = layers_of(model)[0].reft_edits["default"].weight
    assert kept.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(kept.float(), weight)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(LLAMA.build().to(dtype), tmp_path)
    assert layers_of(again)[0].reft_edits["default"].weight.dtype == kept.dtype
    assert torch.equal(logits(again), logits(model))


def test_the_file_holds_the_edits_and_nothing_else(tmp_path):
    model = adapted(layers=[1], r=2)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.1.intervention.reft_edits."
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        prefix + "weight": (2, 32),
        prefix + "source": (2, 32),
        prefix + "bias": (2,),
    }


def test_an_adapter_for_another_shape_is_refused(tmp_path):
    adapted(layers=[1]).save_pretrained(tmp_path)
    for other, message in (
        ({"hidden_size": 48, "num_attention_heads": 4}, "hidden_size=32"),
        ({"num_hidden_layers": 5}, "num_layers=3"),
    ):
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(LLAMA.build(**{}) if not other else build(other), tmp_path)


def test_a_plain_transformers_model_takes_adapters_too(tmp_path):
    expected = adapted(layers=[1])
    expected.save_pretrained(tmp_path / "peft")
    model = LLAMA.build()
    model.add_adapter(ReftConfig(layers=[0], r=2), adapter_name="fresh")
    model.delete_adapter("fresh")
    model.load_adapter(tmp_path / "peft", adapter_name="loaded")
    model.set_adapter("loaded")
    assert torch.equal(logits(model), logits(expected))
    model.disable_adapters()
    assert torch.equal(logits(model), logits(LLAMA.build()))
    model.enable_adapters()
    model.save_pretrained(tmp_path / "plain")
    again = PeftModel.from_pretrained(LLAMA.build(), tmp_path / "plain")
    assert torch.equal(logits(again), logits(expected))
