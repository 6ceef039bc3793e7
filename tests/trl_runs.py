"""Runs the examples for TRL's trainers on a tiny model, as from the command line."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from reftune import ReftConfig
from tests.tiny_text import save_tiny_model

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "trl"
TEXT = [f"What is {n}?{' Say it.' * (n % 4)}" for n in range(8)]
ANSWERS = [" A number" + "!" * (n % 3) for n in range(8)]
ROWS = {
    "prompts": [{"prompt": text} for text in TEXT],
    "rows": [{"prompt": t, "completion": a} for t, a in zip(TEXT, ANSWERS, strict=True)],
    "pairs": [
        {"prompt": t, "chosen": a, "rejected": " No."} for t, a in zip(TEXT, ANSWERS, strict=True)
    ],
    "labelled": [
        {"prompt": t, "completion": (" No.", a)[n % 2], "label": bool(n % 2)}
        for n, (t, a) in enumerate(zip(TEXT, ANSWERS, strict=True))
    ],
}
COMMON = ["--use_cpu", "--bf16", "False", "--logging_steps", "1", "--disable_tqdm", "True"]
QUICK = [*COMMON, "--max_steps", "8", "--per_device_train_batch_size", "4"]
OWN = {
    "sft": ("rows", ["--learning_rate", "0.03"]),
    "sft_packed": ("rows", ["--learning_rate", "0.03", "--max_length", "80"]),
    "dpo": ("pairs", ["--learning_rate", "0.03"]),
    "kto": ("labelled", ["--learning_rate", "0.03"]),
    "reward": ("pairs", ["--learning_rate", "0.03"]),
    "grpo": (
        "prompts",
        ["--num_generations", "4", "--max_completion_length", "5", "--learning_rate", "0.03"],
    ),
    "lora_and_reft": ("rows", ["--learning_rate", "0.03"]),
}


def write_folder(folder: Path) -> Path:
    """Write a tiny model, and a file per kind of rows."""
    save_tiny_model(folder / "model")
    for name, rows in ROWS.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")


def run_example(folder: Path, out: Path, name: str, *options: str, **replaced: object) -> Any:
    """Run an example and return its trainer.

    Args:
        folder: with the model and the rows.
        out: where the adapter is written.
        name: of the example.
        options: further ones for its command line, which win.
        replaced: what its names mean instead.
    """
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data, own = OWN[name]
    given = ["--model", str(folder / "model"), "--data", str(folder / f"{data}.jsonl")]
    given += ["--output_dir", str(out), *QUICK, *own, *options]
    with pytest.MonkeyPatch.context() as patch:
        for what, other in replaced.items():
            patch.setattr(module, what, other)
        patch.setattr(sys, "argv", [name, *given])
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        torch.manual_seed(0)
        return module.main()


def base_model(folder: Path, name: str = "sft") -> Any:
    """Return a fresh copy of the model that an example starts from."""
    if name != "reward":
        return AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    kind = AutoModelForSequenceClassification
    return kind.from_pretrained(folder / "model", num_labels=1).eval()


class Jolted(ReftConfig):
    """Of an adapter that changes the outputs from the start."""

    def __post_init__(self) -> None:
        self.init = "paper"
        super().__post_init__()


def shake(model: Any) -> None:
    """Let an adapter change the outputs much."""
    torch.manual_seed(7)
    for name, parameter in model.named_parameters():
        if "reft_edits" in name:
            parameter.data += torch.randn_like(parameter)


def batch_of(trainer: Any) -> dict[str, Any]:
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def log_probs(model: Any, ids: torch.Tensor, length: int) -> torch.Tensor:
    """Return those of the tokens of one row after a prompt of `length`, `(tokens,)`.

    Args:
        model: a plain one, or one with an adapter, which edits the prompt.
        ids: `(seq,)`, without padding.
        length: tokens of the prompt.
    """
    extra = {}
    if isinstance(model, PeftModel):
        extra["prompt_mask"] = (torch.arange(len(ids)) < length)[None]
    with torch.no_grad():
        logits = model(input_ids=ids[None], **extra).logits[0, length - 1 : -1]
    return logits.log_softmax(-1).gather(1, ids[length:, None])[:, 0]
