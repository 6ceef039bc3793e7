"""TRL's trainers train a ReFT as they train a LoRA, and DPO's reference is the base model."""

from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import LlamaForSequenceClassification

from reftune import ReftConfig
from reftune.labelled_loss import logits_everywhere
from tests.tiny_text import byte_level, tiny_llama

trl = pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")

COMMON = {
    "max_steps": 4,
    "per_device_train_batch_size": 3,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "bf16": False,
    "disable_tqdm": True,
    "use_cpu": True,
}
PAIRS = [{"prompt": f"What is {n}?", "completion": f" A number like {n}."} for n in range(6)]
PREFERENCES = [
    {"prompt": f"What is {n}?", "chosen": f" A number: {n}.", "rejected": " No."} for n in range(6)
]


def config(**fields) -> ReftConfig:
    return ReftConfig(**{"layers": [0], "r": 2, "positions": "f1+l1", **fields})


def snapshot(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def check_trained(trainer, before: dict[str, torch.Tensor], tmp_path) -> None:
    """Only the adapter changed, all of it, and what was saved is the adapter alone."""
    trained = dict(trainer.model.named_parameters())
    assert set(before) <= set(trained)
    changed = {name for name in trained if name in before and not before[name].equal(trained[name])}
    adapter = {name for name in trained if "reft_edits" in name or "modules_to_save" in name}
    assert changed <= adapter
    edits = [p for name, p in trained.items() if "reft_edits" in name and name.endswith(".bias")]
    assert edits
    assert all(p.abs().sum() > 0 for p in edits)  # the identity start has b = 0
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 20_000
    assert not (tmp_path / "adapter" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_checkpointing": True},
        {"packing": True, "max_length": 48},
        {"padding_free": True, "max_length": None},
    ],
    ids=str,
)
def test_sft_trains_the_completion_from_the_edited_prompt(options, tmp_path):
    tokenizer = byte_level()
    before = {f"base_model.model.{n}": p for n, p in snapshot(tiny_llama(tokenizer)).items()}
    options = {"gradient_checkpointing": False, **options}
    trainer = trl.SFTTrainer(
        model=tiny_llama(tokenizer),
        args=trl.SFTConfig(output_dir=str(tmp_path), **COMMON, **options),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer,
        peft_config=config(task_type="CAUSAL_LM"),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    check_trained(trainer, before, tmp_path)


def test_sft_trains_the_same_as_with_the_logits_of_all_tokens(tmp_path):
    tokenizer, logs = byte_level(), []
    for context in (nullcontext, logits_everywhere):
        trainer = trl.SFTTrainer(
            model=tiny_llama(tokenizer),
            args=trl.SFTConfig(output_dir=str(tmp_path), **COMMON),
            train_dataset=Dataset.from_list(PAIRS),
            processing_class=tokenizer,
            peft_config=config(task_type="CAUSAL_LM"),
        )
        with context():
            trainer.train()
        kept = ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens")
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        logs.append([{key: entry[key] for key in kept} for entry in steps])
    assert logs[0] == [pytest.approx(entry, rel=1e-5) for entry in logs[1]]


def test_dpo_takes_the_base_model_as_its_reference(tmp_path):
    tokenizer = byte_level()
    base = tiny_llama(tokenizer)
    before = {f"base_model.model.{name}": p for name, p in snapshot(base).items()}
    trainer = trl.DPOTrainer(
        model=base,
        args=trl.DPOConfig(output_dir=str(tmp_path), **COMMON),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=tokenizer,
        peft_config=config(task_type="CAUSAL_LM", positions="l1"),
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    # An identity start is the reference itself: nothing is preferred yet.
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert log[-1]["rewards/margins"] > log[0]["rewards/margins"]
    check_trained(trainer, before, tmp_path)


def test_rewards_are_learned_from_preferences(tmp_path):
    tokenizer = byte_level()
    torch.manual_seed(0)
    base = LlamaForSequenceClassification(tiny_llama(tokenizer).config)
    base.config.num_labels = 1
    base = LlamaForSequenceClassification(base.config)
    trainer = trl.RewardTrainer(
        model=base,
        args=trl.RewardConfig(output_dir=str(tmp_path), **COMMON),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=tokenizer,
        peft_config=config(task_type="SEQ_CLS"),
    )
    before = snapshot(trainer.model)
    trainer.train()
    check_trained(trainer, before, tmp_path)
    after = dict(trainer.model.named_parameters())
    edits = [name for name in after if "reft_edits" in name]
    assert edits
    assert all(not before[name].equal(after[name]) for name in edits)
    fresh = PeftModel.from_pretrained(
        LlamaForSequenceClassification(base.config), tmp_path / "adapter"
    )
    assert set(fresh.peft_config) == {"default"}
