"""How to train: the recipe, and what `Trainer` and a resumed training make of it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_utils import SchedulerType

from reftune import processes
from reftune.encoding import Dropped, check_max_length, encode_dataset
from reftune.number_fields import check_numbers
from reftune.output_folder import CHECKPOINTS
from reftune.rendering import Template

# What may differ between a training and its continuation.
FREE = ("save_steps", "log_steps", "eval_steps", "inference_mode", "peft_version")

SCHEDULES = tuple(one.value for one in SchedulerType)


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train; all but the last three values change the result.

    Attributes:
        epochs: passes over the rows.
        lr: peak learning rate of AdamW.
        batch_size: rows per step and process.
        accumulation: batches per update of the weights.
        warmup: steps until the learning rate has risen to its peak; below 1, a share of all steps.
        schedule: how it falls after that: any name of a transformers scheduler, such as
            ``"linear"``, ``"cosine"``, ``"constant"``.
        weight_decay: AdamW's.
        max_grad_norm: gradients are clipped to this norm.
        bf16: compute matrix products in bfloat16 (autocast); the weights stay as they are.
        group_by_length: make batches of rows of like length, so that less is padded.
        max_length: longest row in tokens; never more than the model has positions.
        template: how rows become text, see `reftune.rendering`.
        seed: of the order of the rows and of dropout.
        save_steps: steps between two checkpoints; 0 saves none.
        log_steps: steps between two lines of ``training.jsonl``.
        eval_steps: steps between two evaluations, if there are held-out rows; 0: once per epoch.
    """

    epochs: float = 3.0
    lr: float = 1e-3
    batch_size: int = 16
    accumulation: int = 1
    warmup: float = 0.1
    schedule: str = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    bf16: bool = False
    group_by_length: bool = False
    max_length: int = 512
    template: Template = "auto"
    seed: int = 42
    save_steps: int = 100
    log_steps: int = 1
    eval_steps: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("epochs", "lr", "batch_size", "accumulation", "log_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected more than 0")
        for name in ("warmup", "weight_decay", "save_steps", "eval_steps", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 or more")
        check_max_length(self.max_length)
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r}: expected one of {', '.join(SCHEDULES)}")


def encode_for(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset, recipe: TrainingRecipe
) -> tuple[Dataset, Dropped]:
    """Encode rows for a base model, which may have fewer positions than the recipe allows.

    Raises:
        ValueError: a row has no known form, or no row is left.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or recipe.max_length
    return encode_dataset(rows, tokenizer, min(recipe.max_length, limit), recipe.template)


def trainer_arguments(out: Path, recipe: TrainingRecipe, evaluate: bool) -> TrainingArguments:
    """Say to a `Trainer` what a recipe says; its checkpoints go into a folder below ``out``."""
    by_step = "steps" if recipe.eval_steps else "epoch"
    arguments = TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        warmup_steps=recipe.warmup,
        lr_scheduler_type=recipe.schedule,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        train_sampling_strategy="group_by_length" if recipe.group_by_length else "random",
        bf16=recipe.bf16,
        use_cpu=not torch.accelerator.is_available(),  # or bf16 would need a GPU
        seed=recipe.seed,
        save_strategy="steps" if recipe.save_steps else "no",
        save_steps=recipe.save_steps or 1,
        save_total_limit=2,
        logging_steps=recipe.log_steps,
        eval_strategy=by_step if evaluate else "no",
        eval_steps=recipe.eval_steps or None,
        label_names=["labels"],
        remove_unused_columns=False,  # the rows have no others, and the collator pads them
        ddp_find_unused_parameters=False,  # each one has a gradient in every step
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,  # our own bar
        report_to="none",
    )
    # Without a launcher, Trainer would run a thread on each GPU that it sees, and they would share
    # one plan. More than one takes a launcher.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def settings_of(config: PeftConfig, encoded: Dataset, recipe: TrainingRecipe) -> dict[str, Any]:
    """Gather what an unbroken training and a resumed one must have in common.

    Args:
        config: of the adapter, as it is when the adapter is attached.
        encoded: the rows, see `reftune.encoding.encode_dataset`.
        recipe: how to train.
    """
    adapter = {
        f"adapter.{name}": str(value)
        for name, value in config.to_dict().items()
        if name not in FREE
    }
    trained = {name: value for name, value in asdict(recipe).items() if name not in FREE}
    shares = {"processes": processes.count()} if processes.count() > 1 else {}
    return {**trained, **adapter, **shares, "rows_sha256": digest_of(encoded)}


def digest_of(rows: Dataset) -> str:
    """Return the SHA-256 of rows, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(dict(row)).encode())
    return digest.hexdigest()
