"""The tutorial as a whole: ten examples, a hundred epochs, by the method's own Trainer."""

import tempfile
import time
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from benchmarks.worker.session import Session


class Clock(TrainerCallback):
    """Notes when every step ends, and stops a training that takes longer than its budget."""

    def __init__(self, budget: float):
        self.budget = budget
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Note the time; a step is an epoch here."""
        self.ends.append(time.perf_counter())
        if self.ends[-1] - self.ends[0] > self.budget and len(self.ends) > 2:
            control.should_training_stop = True
        return control


def train_tutorial(
    session: Session, path: str, edits: dict, options: dict, rows: dict, epochs: int, budget: float
) -> dict[str, Any]:
    """Build and train; everything between a loaded model and a trained adapter.

    Returns:
        `ends`: seconds from the start to the end of every epoch that ran; `seconds` of all of it.
    """
    _train(session, path, edits, options, rows, epochs=1, budget=0)  # imports what comes late
    return _train(session, path, edits, options, rows, epochs, budget)


def _train(
    session: Session, path: str, edits: dict, options: dict, rows: dict, epochs: int, budget: float
) -> dict[str, Any]:
    session.release()
    kind, clock = session.method_class(path), Clock(budget)
    base, batch = session.fresh_base(), session.batch(rows, 0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=rows["rows"],
            learning_rate=4e-3,
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=session.device == "cpu",
            remove_unused_columns=False,
        )
        started = time.perf_counter()
        method = kind(base, edits, **options)
        method.train()
        with method.training():
            method.trainer(batch, arguments, clock).train()
        finished = time.perf_counter()
    return {"ends": [end - started for end in clock.ends], "seconds": finished - started}
