"""Ending a training on a signal so that it can go on later."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reftune import processes


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by a signal, and the same call with `existing="resume"` goes on."""


class StopAtStepEnd(TrainerCallback):
    """Ends the training after the current step, with a checkpoint, once it is asked to."""

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have `Trainer` save and stop, in all processes at the same step."""
        self.asked = processes.any_says(self.asked, args.device)
        if self.asked:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Be asked by SIGINT and SIGTERM, once; the second one finds the usual handler again."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(number, usual[signal.Signals(number)])

        for number in usual:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)
