"""A worker upon a real engine with a tiny model, and what a training alone makes of its jobs."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import set_seed

from reftune.data import load_rows
from reftune.output_folder import WEIGHTS
from reftune.server.database.records import OVER, JobRecord
from reftune.server.database.store import Store
from reftune.server.files import UploadedFiles
from reftune.server.job_recipe import job_config, job_recipe
from reftune.server.worker import Worker
from reftune.serving.engine import Engine
from reftune.serving.settings import EngineSettings
from reftune.training import train
from tests.server.filled import job_fields
from tests.server.waiting import until
from tests.tiny_text import byte_level, tiny_llama

TOKENIZER = byte_level(chat=True)
EXACT = {"rtol": 1e-4, "atol": 1e-5}
SETTINGS = EngineSettings(slots=3, batch_tokens=32, cache_tokens=1024, page_tokens=16)


def new_engine() -> Engine:
    return Engine(tiny_llama(TOKENIZER), TOKENIZER, SETTINGS, "tiny")


def chat(question: str, answer: str | None) -> dict[str, Any]:
    said = [] if answer is None else [{"role": "assistant", "content": answer}]
    return {"messages": [{"role": "user", "content": question}, *said]}


def examples(count: int, word: str = "fox") -> list[dict[str, Any]]:
    return [chat(f"What is {i} + {i}?", f"The {word} " * (i % 3 + 1)) for i in range(count)]


class Desk:
    """A store, its files, and the worker that is at it."""

    def __init__(self, engine: Engine, state: Path) -> None:
        self.engine, self.state = engine, state
        state.mkdir(exist_ok=True)
        self.store = Store(f"sqlite:///{state}/server.db")
        self.files = UploadedFiles(self.store, state / "files")
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        return Worker(self.engine, self.store, self.files, self.state)

    def close(self) -> None:
        self.worker.end()
        self.store.close()

    def upload(self, rows: list[dict[str, Any]]) -> str:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        stream = io.BytesIO(content)
        return self.files.add("ada", "tips.jsonl", "fine-tune", stream, len(content)).id

    def add(self, rows: list[dict[str, Any]], name: str = "ft:tiny", **fields: Any) -> JobRecord:
        given = {"hyperparameters": {"n_epochs": 3}, **fields}
        return self.store.add_job("ada", **job_fields(self.upload(rows), trained_as=name, **given))

    def get(self, job: JobRecord) -> JobRecord:
        return self.store.get_job("ada", job.id)

    def over(self, job: JobRecord) -> JobRecord:
        until(lambda: self.get(job).status in OVER)
        return self.get(job)

    def stepped(self, job: JobRecord) -> None:
        """Wait for the first steps of a job."""
        until(lambda: any(event.data for event in self.store.list_events("ada", job.id)))

    def written(self) -> set[str]:
        """Return what there is of jobs on the disk."""
        folders = (self.state / "adapters", self.state / "training")
        return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}


def trained_alone(desk: Desk, job: JobRecord, out: Path) -> Path:
    """Train what a job trains, without any server."""
    model = tiny_llama(TOKENIZER)
    rows = load_rows(desk.files.path("ada", job.training_file))
    recipe = job_recipe(job.hyperparameters, len(rows), job.seed, SETTINGS.cache_tokens)
    set_seed(recipe.seed)
    peft = get_peft_model(model, job_config(model.config.num_hidden_layers))
    return train(peft, TOKENIZER, rows, out, recipe).out


def assert_as_alone(desk: Desk, job, out: Path) -> None:
    expected = trained_alone(desk, job, out)
    folder = desk.state / "adapters" / job.id
    tensors, others = load_file(folder / WEIGHTS), load_file(expected / WEIGHTS)
    assert tensors.keys() == others.keys()
    for name in tensors:
        torch.testing.assert_close(tensors[name], others[name], **EXACT)
