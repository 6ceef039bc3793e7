"""Training an adapter on rows: thin glue over the plain `transformers.Trainer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback

from reftune import processes
from reftune.collation import PaddingCollator
from reftune.divided import gathered
from reftune.encoding import Dropped
from reftune.even_batches import PlainTrainer, Trainer
from reftune.output_folder import (
    LOG_FILE,
    PICTURE,
    Existing,
    check_output,
    measure_adapter,
    open_output,
    save_adapter,
)
from reftune.recipe import TrainingRecipe, encode_for, settings_of, trainer_arguments
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.training_log import LogWriter, ProgressBar, can_draw, draw_loss, read_log


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

    Processes that a launcher has started train together: each takes ``recipe.batch_size`` rows at a
    time, and the first one writes. Twice the processes with half the batch size come to the same
    adapter, but for rounding and dropout, and can go on with what the others began.

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
    processes.join()
    checkpoint = processes.by_first(lambda: check_output(out, existing))
    drawing = processes.is_first() and can_draw()
    base, adapter = model.get_base_model(), model.active_adapters[0]

    encoded, dropped = _encoded(base, tokenizer, rows, recipe)
    held_out = None if eval_rows is None else _encoded(base, tokenizer, eval_rows, recipe)[0]
    settings = settings_of(model.peft_config[adapter], encoded, recipe)
    processes.by_first(lambda: open_output(out, existing, settings))

    trainer = Trainer(
        model=model,
        args=trainer_arguments(out, recipe, evaluate=held_out is not None),
        train_dataset=encoded,
        eval_dataset=held_out,
        # The bound method: from the object, Trainer would copy the tokenizer into each checkpoint.
        data_collator=PaddingCollator(tokenizer).__call__,
        callbacks=[LogWriter(out / LOG_FILE), ProgressBar()],
    )
    trainer.remove_callback(PrinterCallback)
    run_to_end(trainer, checkpoint)
    state = gathered_state(trainer)

    def finish() -> TrainingResult:
        save_adapter(model, out, adapter, state)
        if drawing:
            draw_loss(out / LOG_FILE, out / PICTURE)
        return result_of(out, len(encoded), dropped)

    return processes.by_first(finish)


def _encoded(
    base: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset, recipe: TrainingRecipe
) -> tuple[Dataset, Dropped]:
    return processes.together(lambda: encode_for(base, tokenizer, rows, recipe))


def gathered_state(trainer: PlainTrainer) -> dict[str, Tensor] | None:
    """Return what a model has been trained to if an engine has divided it, or else `None`.

    All processes must call this; only the first one is sure to get the tensors.
    """
    divided: Any = trainer.model_wrapped
    if trainer.is_deepspeed_enabled:
        state: Any = trainer.accelerator.get_state_dict(divided)
        return state
    return gathered(divided) if trainer.is_fsdp_enabled else None


def result_of(out: Path, rows: int, dropped: Dropped) -> TrainingResult:
    """Gather what a finished training left in the folder ``out``.

    Args:
        out: the folder.
        rows: how many were trained on.
        dropped: what was left out of them.
    """
    last = [record for record in read_log(out / LOG_FILE) if "loss" in record][-1]
    parameters, size = measure_adapter(out)
    return TrainingResult(
        out, last["step"], last["loss"], last["seconds"], parameters, size, rows, dropped
    )


def run_to_end(trainer: PlainTrainer, checkpoint: Path | None) -> bool:
    """Train from the start or from a checkpoint, and stop well if a signal comes.

    Returns:
        Whether a signal came when all steps were done, so that what follows is not to be begun.

    Raises:
        TrainingInterrupted: a signal came before the last step; a checkpoint is there.
    """
    stop = StopAtStepEnd()
    trainer.add_callback(stop)
    with stop.on_signals():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    # Or a model that was trained in bf16 would go on so, unlike its adapter once it is loaded.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise TrainingInterrupted(f"stopped after step {trainer.state.global_step}")
    return stop.asked
