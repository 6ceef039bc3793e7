"""Training an adapter on rows: thin glue over the plain `transformers.Trainer`."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from reftune.collation import PaddingCollator
from reftune.encoding import Dropped, encode_dataset
from reftune.output_folder import (
    CHECKPOINTS,
    LOG_FILE,
    PICTURE,
    Existing,
    check_output,
    open_output,
    save_adapter,
)
from reftune.rendering import Template
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.training_log import LogWriter, ProgressBar, can_draw, draw_loss, read_log

# What may differ between a training and its continuation.
FREE = ("save_steps", "log_steps", "eval_steps", "inference_mode", "peft_version")


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train; all but the last three values change the result.

    Attributes:
        epochs: passes over the rows.
        lr: peak learning rate of AdamW.
        batch_size: rows per step and device.
        accumulation: batches per update of the weights.
        warmup: steps until the learning rate has risen to its peak; below 1, a share of all steps.
        schedule: how it falls after that: any name of a transformers scheduler, such as
            ``"linear"``, ``"cosine"``, ``"constant"``.
        weight_decay: AdamW's.
        max_grad_norm: gradients are clipped to this norm.
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
    max_length: int = 512
    template: Template = "auto"
    seed: int = 42
    save_steps: int = 100
    log_steps: int = 1
    eval_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "batch_size", "accumulation", "log_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected more than 0")
        for name in ("warmup", "weight_decay", "save_steps", "eval_steps", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 or more")


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training has to tell.

    ``loss`` is the last one logged; ``seconds`` counts interrupted parts too; ``adapter_bytes`` is
    the size on disk of config and weights.
    """

    out: Path
    steps: int
    loss: float
    seconds: float
    trainable_parameters: int
    adapter_bytes: int
    rows: int
    dropped: Dropped


def train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    out: str | Path,
    recipe: TrainingRecipe | None = None,
    existing: Existing = "refuse",
    eval_rows: Dataset | None = None,
) -> TrainingResult:
    """Train the adapter of ``model`` and write it to the folder ``out``.

    SIGINT and SIGTERM end the training after the current step, with a checkpoint; a second one ends
    it at once. ``existing="resume"`` goes on from the last checkpoint, to the same weights as
    without the interruption.

    Args:
        model: from `peft.get_peft_model`; trained in place.
        tokenizer: of the same model.
        rows: see `reftune.data.load_rows`.
        out: gets the adapter, ``training.jsonl``, ``loss.png`` (if matplotlib is installed) and
            ``checkpoints/``.
        recipe: how to train; the default recipe if None.
        existing: what to do if ``out`` holds something, see `reftune.output_folder`.
        eval_rows: held-out rows whose loss is logged too.

    Raises:
        ValueError: no rows are left, or a resumed training was started with other settings.
        OSError: ``out`` holds what it should not, or not what it should.
        TrainingInterrupted: a signal came; a checkpoint is there.
    """
    out, recipe = Path(out), recipe or TrainingRecipe()
    checkpoint = check_output(out, existing)
    drawing = can_draw()
    limit = getattr(model.get_base_model().config, "max_position_embeddings", None)
    length = min(recipe.max_length, limit or recipe.max_length)
    encoded, dropped = encode_dataset(rows, tokenizer, length, recipe.template)
    held_out = None
    if eval_rows is not None:
        held_out, _ = encode_dataset(eval_rows, tokenizer, length, recipe.template)
    open_output(out, existing, _settings(model, encoded, recipe))

    trainer = Trainer(
        model=model,
        args=_arguments(out, recipe, evaluate=held_out is not None),
        train_dataset=encoded,
        eval_dataset=held_out,
        # The bound method: from the object, Trainer would copy the tokenizer into each checkpoint.
        data_collator=PaddingCollator(tokenizer).__call__,
        callbacks=[LogWriter(out / LOG_FILE), ProgressBar()],
    )
    trainer.remove_callback(PrinterCallback)
    run_to_end(trainer, checkpoint)
    size = save_adapter(model, out)
    if drawing:
        draw_loss(out / LOG_FILE, out / PICTURE)
    last = [record for record in read_log(out / LOG_FILE) if "loss" in record][-1]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return TrainingResult(
        out, last["step"], last["loss"], last["seconds"], trainable, size, len(encoded), dropped
    )


def run_to_end(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train from the start or from a checkpoint, and stop well if a signal comes.

    Raises:
        TrainingInterrupted: a signal came before the last step; a checkpoint is there.
    """
    stop = StopAtStepEnd()
    trainer.add_callback(stop)
    with stop.on_signals():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise TrainingInterrupted(f"stopped after step {trainer.state.global_step}")


def _arguments(out: Path, recipe: TrainingRecipe, evaluate: bool) -> TrainingArguments:
    by_step = "steps" if recipe.eval_steps else "epoch"
    return TrainingArguments(
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
        seed=recipe.seed,
        save_strategy="steps" if recipe.save_steps else "no",
        save_steps=recipe.save_steps or 1,
        save_total_limit=2,
        logging_steps=recipe.log_steps,
        eval_strategy=by_step if evaluate else "no",
        eval_steps=recipe.eval_steps or None,
        label_names=["labels"],
        remove_unused_columns=False,  # the rows have no others, and the collator pads them
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,  # our own bar
        report_to="none",
    )


def _settings(model: PeftModel, encoded: Dataset, recipe: TrainingRecipe) -> dict[str, Any]:
    """Gather what an unbroken training and a resumed one must have in common."""
    digest = hashlib.sha256()
    for row in encoded:
        digest.update(json.dumps(dict(row)).encode())
    config = model.peft_config[model.active_adapters[0]].to_dict()
    adapter = {f"adapter.{name}": str(value) for name, value in config.items() if name not in FREE}
    trained = {name: value for name, value in asdict(recipe).items() if name not in FREE}
    return {**trained, **adapter, "rows_sha256": digest.hexdigest()}
