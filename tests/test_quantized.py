"""Upon a quantized base the edits stay float32, are trained, and give the same again.

bitsandbytes is in `reftune[test]`; torchao and optimum-quanto are tried where they are installed.
"""

import importlib
import json
from functools import partial

import pytest
import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    QuantoConfig,
    TorchAoConfig,
    Trainer,
    TrainingArguments,
)

from reftune import ReftConfig
from reftune.cli import main
from reftune.cli.loading import load_base
from reftune.orthonormal import orthonormal
from tests.adapters import IDS, logits, shake
from tests.reference import Edit, Reference
from tests.tiny_text import byte_level, save_tiny_model
from tests.trl_runs import ROWS, run_example, write_rows


def torchao_int8() -> TorchAoConfig:
    return TorchAoConfig(importlib.import_module("torchao.quantization").Int8WeightOnlyConfig())


NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
DOUBLE = {"bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
KINDS = {
    "nf4": ("bitsandbytes", partial(BitsAndBytesConfig, **NF4)),
    "nf4 twice": ("bitsandbytes", partial(BitsAndBytesConfig, **NF4, **DOUBLE)),
    "fp4": ("bitsandbytes", partial(BitsAndBytesConfig, load_in_4bit=True)),
    "int8": ("bitsandbytes", partial(BitsAndBytesConfig, load_in_8bit=True)),
    "torchao int8": ("torchao", torchao_int8),
    "quanto int8": ("optimum.quanto", partial(QuantoConfig, weights="int8")),
}
LABELS = IDS.clone()
LABELS[:, :5] = -100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model whose matrices are wide enough for blocks of 64."""
    folder = tmp_path_factory.mktemp("quantized")
    save_tiny_model(folder / "model", hidden_size=64, num_hidden_layers=3)
    write_rows(folder / "rows.jsonl", ROWS["rows"])
    return folder


@pytest.fixture
def load(folder, kind):
    """Return a function that loads the model in 4 or 8 bits, always the same."""
    library, config = KINDS[kind]
    pytest.importorskip(library, exc_type=ImportError)

    def loaded(**options) -> nn.Module:
        given = {"dtype": torch.float32, "quantization_config": config(), **options}
        model = AutoModelForCausalLM.from_pretrained(folder / "model", device_map="cpu", **given)
        return unpacked(model.eval())

    return loaded


def unpacked(model: nn.Module) -> nn.Module:
    """Let bitsandbytes compute alike before and after the first answer, also with AVX512-BF16."""
    for module in model.modules():
        if "support_avx512bf16_for_cpu" in vars(module):
            module.support_avx512bf16_for_cpu = False
    return model


def adapted(base: nn.Module, **fields) -> PeftModel:
    fields = {"r": 2, "positions": "f1+l1", "task_type": "CAUSAL_LM", **fields}
    return get_peft_model(base, ReftConfig(**fields)).eval()


def edits(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if "reft_edits" in name}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_attached_saved_loaded_and_taken_off(load, tmp_path):
    base = load()
    plain = logits(base)
    model = adapted(base)
    assert {p.dtype for p in edits(model).values()} == {torch.float32}
    assert torch.equal(logits(model), plain)  # the identity start
    shake(model)
    changed = logits(model)
    assert not torch.allclose(changed, plain)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(load(), tmp_path).eval()), changed)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    assert torch.equal(logits(model.unload()), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_edit_is_the_formula_upon_the_quantized_layers(load):
    reference = Reference(load(), {}, "f1+l1")
    model = adapted(load(), layers=[0, 2])
    shake(model)
    for layer in (0, 2):
        edit = model.get_base_model().model.layers[layer].intervention.reft_edits["default"]
        R, W, b = orthonormal(edit.weight.detach()), edit.source.detach(), edit.bias.detach()
        reference.edits[f"model.layers.{layer}"] = (Edit(R, W, b), Edit(R, W, b))
    expected = reference.logits(IDS[0].tolist(), IDS.shape[1])
    torch.testing.assert_close(logits(model)[0], expected, atol=5e-2, rtol=1e-2)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize(
    "component", ["block_output", "mlp_output", "attention_value_output", "self_attn.q_proj"]
)
def test_quantized_modules_are_sites(load, component):
    model = adapted(load(), component=component)
    plain = logits(model)
    assert len(edits(model)) == 9
    shake(model)
    assert not torch.allclose(logits(model), plain)
    model.train()(input_ids=IDS, labels=LABELS).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in edits(model).values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prepared", [False, True], ids=["as loaded", "prepared"])
def test_the_plain_trainer_trains_the_edits_alone(load, prepared, tmp_path):
    base = load()
    if prepared:  # which casts norms and embeddings to float32, and checkpoints activations
        kept = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
        base = prepare_model_for_kbit_training(base, **kept)
    plain = logits(base)
    model = adapted(base)
    first = {name: p.detach().clone() for name, p in edits(model).items()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=6,
        learning_rate=0.02,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    row = {"input_ids": IDS[0].tolist(), "labels": LABELS[0].tolist()}
    trainer = Trainer(model, arguments, train_dataset=[row] * 48)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert float(losses[-1]) < float(losses[0])
    with model.eval().disable_adapter():
        assert torch.equal(logits(model), plain)
    for name, parameter in edits(model).items():
        assert parameter.dtype == torch.float32
        assert not torch.equal(parameter, first[name])


@pytest.mark.parametrize("kind", ["nf4 twice", "int8"])
def test_trl_leaves_the_edits_in_float32(load, kind, folder, tmp_path):
    trl = pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")
    base = load(dtype=torch.bfloat16)
    start: dict[str, torch.Tensor] = {}

    def quantized(model, **given):
        trainer = trl.SFTTrainer(model=base, **given)
        start.update((n, p.detach().clone()) for n, p in edits(trainer.model).items())
        return trainer

    trainer = run_example(folder, tmp_path, "sft", SFTTrainer=quantized)
    assert {t.dtype for t in start.values()} == {torch.float32}
    for name, tensor in start.items():  # what was not rounded on its way is the identity still
        if name.endswith("source"):
            R = orthonormal(start[name.replace("source", "weight")])
            torch.testing.assert_close(tensor, R, atol=1e-6, rtol=0)
    states = trainer.optimizer.state.values()
    assert {state["exp_avg"].dtype for state in states} == {torch.float32}
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.float32}
    found = PeftModel.from_pretrained(load(dtype=torch.bfloat16), tmp_path).eval()
    assert torch.equal(logits(found), logits(trainer.model.eval()))


def test_the_command_line_takes_a_model_of_four_bits(folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    four_bits = KINDS["nf4 twice"][1]()
    given = {"dtype": torch.bfloat16, "quantization_config": four_bits, "device_map": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(folder / "model", **given)
    model.save_pretrained(tmp_path / "small")
    byte_level().save_pretrained(tmp_path / "small")
    rows = [{"instruction": f"What is {n}?", "output": "A number"} for n in range(4)]
    write_rows(tmp_path / "rows.jsonl", rows)
    options = ["--model", str(tmp_path / "small"), "--data", str(tmp_path / "rows.jsonl")]
    out = tmp_path / "adapter"
    assert main(["train", *options, "--out", str(out), "--epochs", "2"]) == 0
    saved = load_file(out / "adapter_model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.float32}
    asked = ["--model", str(tmp_path / "small"), "--prompt", "What is 3?", "--adapter", str(out)]
    assert main(["generate", *asked, "--max-new-tokens", "2"]) == 0


def test_a_missing_library_is_named_with_its_extra(folder, tmp_path, monkeypatch):
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    for file in (folder / "model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    quantizer = "transformers.quantizers.quantizer_bnb_4bit.is_bitsandbytes_available"
    monkeypatch.setattr(quantizer, lambda *args, **kwargs: False)
    with pytest.raises(ValueError, match=r"pip install 'reftune\[quantized\]'"):
        load_base(str(tmp_path))
