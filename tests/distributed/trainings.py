"""Trainings of a tiny model, as every process of a launcher has them."""

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from datasets import Dataset
from peft import get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback, set_seed

from reftune import ReftConfig, processes, training
from reftune.attached import reuse_of
from reftune.recipe import TrainingRecipe
from reftune.reuse import without_reuse
from reftune.training_log import read_log
from tests.tiny_text import byte_level, tiny_llama

# Of many lengths; 13 rows divide by no number of processes and no batch size.
ROWS = [
    {"prompt": f"What is {i}?" * (i % 2 + 1), "completion": "The fox " * (i % 4 + 1)}
    for i in range(13)
]


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        recipe: what is said to `train`; `batch_size` is that of all processes together.
        positions: of the adapter.
        checkpointing: whether layers run again in backward.
        reuse: whether something may be reused, if the positions allow it.
        stop: the step in which a signal comes to the last process alone.
        options: of `train`.
    """

    recipe: TrainingRecipe
    positions: str = "f1+l2"
    checkpointing: bool = False
    reuse: bool = False
    stop: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Stopped(TrainerCallback):
    """Sends a signal to the last process during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Send it, if this is the step."""
        if state.global_step == self.step and args.process_index == args.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def run(out: Path, case: Case) -> str:
    """Train a fresh model; return what went wrong, or ""."""
    processes.join()
    recipe = replace(case.recipe, batch_size=case.recipe.batch_size // processes.count())
    tokenizer = byte_level()
    base = tiny_llama(tokenizer)
    set_seed(recipe.seed)
    model: Any = get_peft_model(base, ReftConfig(layers=[0, 1], r=2, positions=case.positions))
    if case.checkpointing:
        model.gradient_checkpointing_enable()
    callbacks = [] if case.stop is None else [Stopped(case.stop)]

    class Trainer(training.Trainer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs | {"callbacks": [*kwargs["callbacks"], *callbacks]})

    rows = Dataset.from_list(ROWS)
    try:
        with (
            mock.patch.object(training, "Trainer", Trainer),
            nullcontext() if case.reuse else without_reuse(),
        ):
            training.train(model, tokenizer, rows, out, recipe, **case.options)
    except (Exception, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    if case.reuse:
        return "".join(f"nothing is reused: {one.reason}" for one in reuse_of(base) if one.reason)
    return ""


def run_all(folder: Path, cases: list[tuple[str, Case]]) -> list[str]:
    """Run trainings one after another, each in the folder of its name."""
    return [run(folder / name, case) for name, case in cases]


def steps(out: Path) -> list[list[float]]:
    """Return step, epoch, loss and learning rate of each logged step."""
    names = ("step", "epoch", "loss", "lr")
    return [[line[name] for name in names] for line in read_log(out / "training.jsonl")]


def adapter(out: Path) -> dict[str, Tensor]:
    return load_file(out / "adapter_model.safetensors")
