"""TRL's own scripts, such as `trl sft`, train a ReFT where they would train a LoRA."""

import importlib
import sys
from pathlib import Path

import datasets
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from reftune import ReftConfig
from tests.trl_runs import COMMON, OWN, base_model, write_folder

trl = pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")

SCRIPTS = {
    "sft": ["--max_length", "80", "--packing", "True"],
    "dpo": [],
    "kto": ["--per_device_train_batch_size", "4"],
    "reward": [],
    "grpo": [
        *("--reward_funcs", "tests.test_trl_scripts.total"),
        *("--num_generations", "4", "--max_completion_length", "4"),
    ],
}


def total(completion_ids: list[list[int]], **columns: list) -> list[float]:
    return [float(sum(ids)) for ids in completion_ids]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("trl"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_trl_trains_an_adapter(name, folder, tmp_path, monkeypatch):
    script = importlib.import_module(f"trl.scripts.{name}")
    kind = "SEQ_CLS" if name == "reward" else "CAUSAL_LM"
    config = ReftConfig(r=2, positions="f1+l1", task_type=kind)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.setattr(trl, "get_peft_config", lambda model_args: config)
    rows = folder / f"only-{name}"
    rows.mkdir()
    (rows / "train.jsonl").write_text((folder / f"{OWN[name][0]}.jsonl").read_text("utf-8"))
    given = ["--model_name_or_path", str(folder / "model"), "--dataset_name", str(rows)]
    given += ["--output_dir", str(tmp_path), "--max_steps", "2", "--report_to", "none"]
    given += ["--save_strategy", "no", "--learning_rate", "0.03", "--dtype", "float32"]
    monkeypatch.setattr(sys, "argv", [name, *given, *COMMON, *SCRIPTS[name]])
    script.main(*script.make_parser().parse_args_and_config(fail_with_unknown_args=False))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all("reft_edits" in key or "score" in key for key in saved)
    biases = [tensor for key, tensor in saved.items() if key.endswith(".bias")]
    assert len(biases) == 2
    assert all(bias.abs().sum() > 0 for bias in biases)
    assert not list(Path(tmp_path).glob("model*"))
    ids = torch.tensor([[5, 6, 7, 8]])
    base = base_model(folder, name)
    with torch.no_grad():
        plain = base(ids).logits
        assert not torch.equal(PeftModel.from_pretrained(base, tmp_path)(ids).logits, plain)
