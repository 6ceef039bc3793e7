"""Jobs that differ in all that matters, for the tests of many trainings at once."""

from pathlib import Path

from datasets import Dataset

from reftune import ReftConfig
from reftune.jobs import Job
from reftune.many import train_many
from reftune.recipe import TrainingRecipe
from reftune.training import TrainingResult
from tests.tiny_text import byte_level, tiny_llama


def rows(count: int, length: int = 1) -> Dataset:
    """Rows of different lengths, so that batches are padded and weigh differently."""
    return Dataset.from_list(
        [
            {"prompt": "What" * (i % 3 * length) + f" is {i}?", "completion": "The fox " * (i % 4)}
            for i in range(1, count + 1)
            if i % 4
        ]
    )


ROWS = {"few": rows(4), "some": rows(13), "long": rows(9, 5)}
# Rows, config and recipe of each: no two alike in what follows from them, but for the first two,
# whose adapters are alike in all but their numbers.
JOBS = {
    "plain": ("some", {"r": 2}, {"epochs": 4, "batch_size": 3}),
    "seed": ("some", {"r": 2}, {"epochs": 2.5, "batch_size": 4, "seed": 7, "lr": 0.02}),
    "sums": ("some", {"r": 2, "positions": "l1"}, {"batch_size": 2, "accumulation": 3}),
    "decay": ("long", {"layers": [1], "r": 1}, {"weight_decay": 0.5, "schedule": "cosine"}),
    "clipped": ("few", {"positions": "all"}, {"max_grad_norm": 0.01, "warmup": 2, "epochs": 5}),
    "untied": (
        "some",
        {"tied": False, "init": "paper"},
        {"log_steps": 2, "warmup": 0, "epochs": 5},
    ),
    "direft": ("long", {"intervention": "direft"}, {"schedule": "constant", "batch_size": 5}),
    "red": ("few", {"intervention": "red", "decode": "all"}, {"eval_steps": 2, "epochs": 5}),
}
EVALUATED = {"seed", "sums", "red"}


def config_of(name: str, **changes) -> ReftConfig:
    settings = {"positions": "f1+l2", **JOBS[name][1], **changes}
    return ReftConfig(task_type="CAUSAL_LM", **settings)


def job(name: str, out: Path, **recipe) -> Job:
    data, _, own = JOBS[name]
    return Job(
        rows=ROWS[data],
        out=out / name,
        config=config_of(name),
        recipe=TrainingRecipe(**{"lr": 0.01, **own, **recipe}),
        eval_rows=ROWS["few"] if name in EVALUATED else None,
    )


def together(out: Path, names=JOBS, **options) -> list[TrainingResult]:
    tokenizer = byte_level()
    jobs = [job(name, out) for name in names]
    return train_many(tiny_llama(tokenizer), tokenizer, jobs, **options)
