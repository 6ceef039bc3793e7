"""`--dtype nf4` and `int8`: a base is quantized while it is loaded, all of it but heads."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from reftune.cli import main
from reftune.cli.loading import load_base
from reftune.experiments.experiment import Experiment
from reftune.experiments.loading import load_classifier
from reftune.experiments.running import run_experiment
from reftune.tasks.labels import labels_of
from tests.test_quantized import unpacked
from tests.tiny_classifiers import rows, save_roberta, write_rows
from tests.tiny_text import byte_level, save_tiny_model

bitsandbytes = pytest.importorskip("bitsandbytes")
KINDS = {"nf4": bitsandbytes.nn.Linear4bit, "int8": bitsandbytes.nn.Linear8bitLt}
LABELS = labels_of(["good", "bad"], "rows")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    save_tiny_model(folder / "decoder", hidden_size=64, num_hidden_layers=2)
    save_roberta(folder / "encoder", width=64)
    write_rows(folder / "answers.jsonl", [{"instruction": "Say A", "output": "A"}] * 8)
    write_rows(folder / "data" / "train.jsonl", rows(16))
    write_rows(folder / "data" / "test.jsonl", rows(8, 100))
    return folder


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)


def linear_layers(model: nn.Module) -> dict[str, type[nn.Module]]:
    """Return the classes of linear layers by name."""
    return {name: type(m) for name, m in model.named_modules() if isinstance(m, nn.Linear)}


@pytest.mark.parametrize("dtype", KINDS)
def test_layers_are_quantized_and_the_rest_is_not(folder, dtype):
    model, _ = load_base(str(folder / "decoder"), dtype)
    kinds = linear_layers(model)
    assert {kind for name, kind in kinds.items() if name.startswith("model.")} == {KINDS[dtype]}
    assert kinds["lm_head"] is nn.Linear
    floating = {p.dtype for p in model.parameters() if p.is_floating_point()}
    assert floating == {torch.float32}  # no accelerator here, or it would be bfloat16
    plain, _ = load_base(str(folder / "decoder"))
    ids = torch.arange(4, 12)[None]
    near, exact = (m(ids.to(m.device)).logits.detach() for m in (unpacked(model), plain))
    assert not torch.equal(near, exact)
    assert torch.nn.functional.cosine_similarity(near.flatten(), exact.flatten(), dim=0) > 0.85


@pytest.mark.parametrize("dtype", KINDS)
def test_a_head_that_is_trained_is_not_quantized(folder, dtype):
    base = load_classifier(str(folder / "encoder"), dtype, LABELS)
    kinds = linear_layers(base.model)
    heads = {kind for name, kind in kinds.items() if name.startswith("classifier")}
    assert heads == {nn.Linear}
    assert {kind for name, kind in kinds.items() if "encoder.layer" in name} == {KINDS[dtype]}


@pytest.mark.parametrize("dtype", KINDS)
def test_the_command_line_trains_and_answers_upon_it(folder, dtype, tmp_path):
    given = ["--model", str(folder / "decoder"), "--dtype", dtype]
    out = tmp_path / "adapter"
    train = ["train", *given, "--data", str(folder / "answers.jsonl"), "--epochs", "1"]
    assert main([*train, "--out", str(out)]) == 0
    assert {t.dtype for t in load_file(out / "adapter_model.safetensors").values()} == {
        torch.float32
    }
    asked = ["--prompt", "Say A", "--adapter", str(out), "--max-new-tokens", "2"]
    assert main(["generate", *given, *asked]) == 0


def experiment(folder, method: str, adapter: dict, dtype: str) -> Experiment:
    training = {"epochs": 1, "lr": 1e-2, "batch_size": 8, "max_length": 32, "save_steps": 0}
    return Experiment(
        task="classification",
        model=str(folder / "encoder"),
        method=method,
        adapter=adapter,
        training=training,
        seeds=(1,),
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    ("method", "adapter"),
    [("reft", {"r": 2, "positions": "f1"}), ("lora", {"r": 2}), ("ia3", {}), ("prompt-tuning", {})],
)
def test_methods_train_as_much_upon_it_as_upon_floats(folder, tmp_path, method, adapter, dtype):
    wanted = experiment(folder, method, adapter, dtype)
    found = run_experiment(wanted, folder / "data", tmp_path / "quantized")
    floats = replace(wanted, dtype="float32")
    other = run_experiment(floats, folder / "data", tmp_path / "float32")
    [one], [two] = found["seeds"], other["seeds"]
    assert (one["trainable"], one["head"]) == (two["trainable"], two["head"])
    assert one["trainable"] > 0
    assert found["experiment"]["dtype"] == dtype
    assert one["loss"] != two["loss"]
    assert 0 < one["loss"] < 3


@pytest.mark.parametrize("method", ["full", "bitfit", "bottleneck", "probe"])
def test_what_peft_does_not_put_there_is_refused(folder, method):
    with pytest.raises(ValueError, match=f"{method} with dtype nf4: expected one of auto"):
        experiment(folder, method, {}, "nf4")


def test_wrong_use_is_told(folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="dtype 'int4': expected one of auto, float32"):
        experiment(folder, "lora", {}, "int4")
    four_bits = BitsAndBytesConfig(load_in_4bit=True)
    given = {"quantization_config": four_bits, "device_map": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(folder / "decoder", **given)
    model.save_pretrained(tmp_path / "small")
    byte_level().save_pretrained(tmp_path / "small")
    asked = ["--prompt", "Say A", "--max-new-tokens", "1"]
    assert main(["generate", "--model", str(tmp_path / "small"), "--dtype", "nf4", *asked]) != 0
    assert "saved in few bits; expected --dtype auto" in capsys.readouterr().err
    monkeypatch.setattr("reftune.dtypes.find_spec", lambda name: None)
    assert main(["generate", "--model", str(folder / "decoder"), "--dtype", "nf4", *asked]) != 0
    needs = "dtype nf4 needs bitsandbytes: pip install 'reftune[quantized]'"
    assert capsys.readouterr().err == f"reftune: error: {needs}\n"
    monkeypatch.undo()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"dtype nf4: expected one of auto.* with FSDP"):
        load_base(str(folder / "decoder"), "nf4")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["quantization_config"]
