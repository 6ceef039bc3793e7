"""Adapters in folders, an engine on a tiny model, and what `generate` answers for one request."""

import queue
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from reftune import ReftConfig
from reftune.serving.engine import Engine
from reftune.serving.requests import Event, Sampling, Token
from reftune.serving.settings import EngineSettings
from tests.tiny_models import CAUSAL, TinyModel
from tests.tiny_text import byte_level

LLAMA = CAUSAL[0]
SMALL = EngineSettings(slots=3, batch_tokens=16, cache_tokens=512, page_tokens=16)
NEW_TOKENS = 8
# One of each: formula, kind of positions, sites, what is edited after the prompt.
CONFIGS = {
    "last": {"layers": [1], "r": 4, "positions": "l1"},
    "ends": {"layers": "all", "r": 2, "positions": "f3+l3", "tied": False},
    "everywhere": {
        "layers": [2], "r": 5, "positions": "all", "decode": "all", "intervention": "direft",
    },
    "scaled": {"layers": [0, 2], "positions": "f2", "intervention": "red"},
    "vector": {
        "layers": [1], "positions": "l2", "decode": 3, "intervention": "steering_vector",
        "scale": 3.0,
    },
    "active": {"layers": [1], "r": 3, "positions": "f5+l5", "act_fn": "relu", "init": "paper"},
}  # fmt: skip


def write_adapter(folder: Path, model: PreTrainedModel, seed: int, **config) -> Path:
    """Save an adapter that changes much, and leave the model as it was."""
    torch.manual_seed(seed)
    peft = get_peft_model(model, ReftConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if ".reft_edits." in name:
                parameter.add_(torch.randn_like(parameter))
    peft.save_pretrained(folder)
    peft.unload()
    return folder


def write_adapters(out: Path, tiny: TinyModel = LLAMA) -> dict[str, Path]:
    model = tiny.build()
    return {
        name: write_adapter(out / name, model, seed, **config)
        for seed, (name, config) in enumerate(CONFIGS.items())
    }


def new_engine(tiny: TinyModel = LLAMA, settings: EngineSettings = SMALL) -> Engine:
    return Engine(tiny.build(), byte_level(), settings)


@contextmanager
def running(tiny: TinyModel = LLAMA, settings: EngineSettings = SMALL) -> Iterator[Engine]:
    engine = new_engine(tiny, settings)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(drain=False)


class Asked:
    """A request, and what comes of it."""

    def __init__(
        self, engine: Engine, prompt: Sequence[int], adapter: Path | None = None, **sampling
    ) -> None:
        self.prompt, self.adapter = list(prompt), adapter
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        chosen = Sampling(**{"max_tokens": NEW_TOKENS, "temperature": 0, **sampling})
        self.id = engine.submit(self.prompt, chosen, self.events.put, adapter)

    def all(self) -> tuple[list[Token], Event]:
        """Wait for the end; return the tokens and what it ended with."""
        tokens = []
        while isinstance(event := self.events.get(timeout=60), Token):
            tokens.append(event)
        return tokens, event

    def ids(self) -> list[int]:
        tokens, _ = self.all()
        return [token.id for token in tokens]


def prompts(count: int, longest: int = 40, seed: int = 0) -> list[list[int]]:
    draws = random.Random(seed)
    return [
        [draws.randrange(10, 96) for _ in range(draws.randint(1, longest))] for _ in range(count)
    ]


class Alone:
    """Answers one request at a time, with `generate`, on a model of its own."""

    def __init__(self, tiny: TinyModel, folders: dict[str, Path]) -> None:
        self.base = tiny.build()
        self.ends = {self.base.generation_config.eos_token_id}
        self.names = {folder: name for name, folder in folders.items()}
        self.peft: PeftModel | None = None
        for folder, name in self.names.items():
            if self.peft is None:
                self.peft = PeftModel.from_pretrained(self.base, str(folder), adapter_name=name)
            else:
                self.peft.load_adapter(str(folder), adapter_name=name)

    def ids(self, prompt: Sequence[int], adapter: Path | None, count: int = NEW_TOKENS):
        ids = torch.tensor([list(prompt)])
        options = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if adapter is None:
            with self.peft.disable_adapter():
                out = self.peft.generate(**inputs, **options)
        else:
            self.peft.set_adapter(self.names[adapter])
            out = self.peft.generate(**inputs, **options)
        answer = out[0, len(ids[0]) :].tolist()
        return answer[:-1] if answer and answer[-1] in self.ends else answer
