"""The record of a training: one line of JSON per logged step, a progress bar, a picture."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reftune.output_folder import write_atomically

LOG = logging.getLogger(__name__)


def read_log(file: Path) -> list[dict[str, Any]]:
    """Read the records of ``training.jsonl``; a torn last line is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append_record(file: Path, record: dict[str, Any]) -> None:
    """Write one more line to ``training.jsonl``."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


class LogWriter(TrainerCallback):
    """Appends ``{"step", "epoch", "loss", "lr", "seconds"}`` (or ``"eval_loss"``) to a file.

    When a training goes on from a checkpoint, the lines after the checkpoint's step are removed
    first, and the seconds count on, so the file reads as if nothing had happened.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._before = 0.0
        self._start = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep what was logged up to the step that training goes on from."""
        if not state.is_world_process_zero:
            return
        kept = [record for record in read_log(self.file) if record["step"] <= state.global_step]
        write_atomically(self.file, "".join(json.dumps(record) + "\n" for record in kept))
        self._before = kept[-1]["seconds"] if kept else 0.0
        self._start = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the last step logged, whatever the interval."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append one line; the summary that `Trainer` logs at the end is no step."""
        if not state.is_world_process_zero or not logs:
            return
        names = {"loss": "loss", "eval_loss": "eval_loss", "learning_rate": "lr"}
        values = {names[name]: logs[name] for name in names if name in logs}
        if "loss" not in values and "eval_loss" not in values:
            return
        seconds = round(self._before + time.monotonic() - self._start, 3)
        record = {"step": state.global_step, "epoch": state.epoch, **values, "seconds": seconds}
        append_record(self.file, record)


class ProgressBar(TrainerCallback):
    """One bar over all steps, with the last loss beside it."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, at the step that training goes on from."""
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                unit="step",
                dynamic_ncols=True,
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar to the step just done."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss."""
        if self._bar is not None and logs and "loss" in logs:
            self._bar.set_postfix_str(f"loss {float(logs['loss']):.3f}", refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def can_draw() -> bool:
    """Say whether matplotlib is there; a training should tell before it starts, not after."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        LOG.warning("no picture of the loss will be drawn: pip install 'reftune[plots]'")
        return False
    return True


def draw_loss(log: Path, picture: Path) -> None:
    """Draw the loss over the steps of ``training.jsonl`` into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(log)
    figure = Figure(figsize=(7, 4), layout="constrained")  # no pyplot: no global state, no window
    axes = figure.add_subplot()
    for name, label in (("loss", "training"), ("eval_loss", "held out")):
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            axes.plot(
                *zip(*points, strict=True), label=label, marker="." if len(points) < 50 else ""
            )
    axes.set_xlabel("step")
    axes.set_ylabel("loss per completion token (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(picture)
