"""Many small trainings on one frozen model: together, in turn, or a process for each."""

import json
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from benchmarks.worker.session import Session
from benchmarks.worker.stopwatch import seconds
from reftune import ReftConfig
from reftune.jobs import Job
from reftune.many import train_many
from reftune.recipe import TrainingRecipe
from reftune.training import train


def tenants_together(
    session: Session, edits: dict, rows: dict[str, int], epochs: int, count: int, seed: int
) -> float:
    """Return the seconds of so many trainings at once, until their adapters are on the disk."""
    session.release()
    base, tokenizer = session.fresh_base(), words(session)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            Job(
                rows=texts(session, rows, _seed(seed, index)),
                out=Path(folder) / str(index),
                config=config(edits),
                recipe=recipe(rows, epochs),
            )
            for index in range(count)
        ]
        return seconds(session.device, lambda: train_many(base, tokenizer, jobs))


def tenants_in_turn(
    session: Session, edits: dict, rows: dict[str, int], epochs: int, count: int, seed: int
) -> float:
    """Return the seconds of so many trainings one after another, on one loaded model."""
    session.release()
    base, tokenizer = session.fresh_base(), words(session)
    given = [texts(session, rows, _seed(seed, index)) for index in range(count)]
    with tempfile.TemporaryDirectory() as folder:

        def work() -> None:
            for index, own in enumerate(given):
                model: Any = get_peft_model(base, config(edits))
                train(model, tokenizer, own, Path(folder) / str(index), recipe(rows, epochs))
                model.unload()

        return seconds(session.device, work)


def tenants_files(session: Session, rows: dict[str, int], folder: str) -> None:
    """Write what `reftune train` reads: `model/` with a tokenizer, and `rows.jsonl`."""
    model, lines = Path(folder) / "model", texts(session, rows, 0)
    session.fresh_base().save_pretrained(model)
    words(session).save_pretrained(model)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (Path(folder) / "rows.jsonl").write_text(text, encoding="utf-8")


def words(session: Session) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose texts are the ids themselves, with spaces between."""
    count = session.where["arguments"]["vocab_size"]
    plain = Tokenizer(WordLevel({str(index): index for index in range(count)}, unk_token="0"))
    plain.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="0")


def texts(session: Session, rows: dict[str, int], seed: int) -> Dataset:
    """Return the rows of a seed as text."""
    batch, prompt = session.batch(rows, seed)["input_ids"].tolist(), rows["prompt"]
    lines = [list(map(str, ids)) for ids in batch]
    return Dataset.from_dict(
        {
            "prompt": [" ".join(line[:prompt]) for line in lines],
            "completion": [" " + " ".join(line[prompt:]) for line in lines],
        }
    )


def config(edits: dict) -> ReftConfig:
    """Return the adapter's configuration."""
    return ReftConfig(
        layers=edits["layers"],
        r=edits["rank"],
        positions=edits["positions"],
        task_type="CAUSAL_LM",
    )


def recipe(rows: dict[str, int], epochs: int) -> TrainingRecipe:
    """Return how each is trained: all of its rows in every step."""
    return TrainingRecipe(
        epochs=epochs, lr=4e-3, batch_size=rows["rows"], template="plain", save_steps=0
    )


def _seed(round_number: int, index: int) -> int:
    return 1000 * round_number + index
