"""Answers to prompts: many in batches, or one word by word."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from reftune.collation import PaddingCollator
from reftune.encoding import encode_prompt
from reftune.number_fields import check_numbers
from reftune.prompt_batches import PromptBatch, in_batches
from reftune.rendering import Template, render

Model = PreTrainedModel | PeftModel


@dataclass(frozen=True)
class GenerationSettings:
    """How to answer.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0 always takes the likeliest token; above 0 draws, the flatter the higher.
        top_p: draw among the likeliest tokens that together have this probability.
        no_repeat_ngram: no so many tokens come twice in a row's text; 0 allows all.
        repetition_penalty: above 1, tokens that came before are less likely.
        batch_size: prompts answered at once.
        template: how rows become prompts, see `reftune.rendering`.
        seed: of the draws; the answers of a batch depend on it and on the place of the batch only.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    batch_size: int = 16
    template: Template = "auto"
    seed: int = 42

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature}: expected 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: expected more than 0 and at most 1")
        if self.no_repeat_ngram < 0:
            raise ValueError(f"no_repeat_ngram {self.no_repeat_ngram}: expected 0 or more")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty {self.repetition_penalty}: expected more than 0")

    def arguments(self) -> dict[str, Any]:
        """Give the keyword arguments of ``model.generate``."""
        drawing: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            drawing = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        if self.no_repeat_ngram:
            drawing["no_repeat_ngram_size"] = self.no_repeat_ngram
        if self.repetition_penalty != 1:
            drawing["repetition_penalty"] = self.repetition_penalty
        return {"max_new_tokens": self.max_new_tokens, **drawing}


def encode_prompts(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, template: Template = "auto"
) -> list[list[int]]:
    """Tokenise the prompts of all rows, as training does.

    Raises:
        ValueError: a row has no known form, or an empty prompt.
    """
    prompts = []
    for number, row in enumerate(rows, start=1):
        rendered = render(dict(row), tokenizer, template, answers=False, where=f"row {number}")
        if not rendered.prompt.strip():
            raise ValueError(f"row {number}: the prompt is empty; expected text")
        prompts.append(encode_prompt(rendered, tokenizer))
    return prompts


def generate_answers(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    settings: GenerationSettings,
    first_batch: int = 0,
    adapters: Sequence[str] | None = None,
) -> Iterator[list[str]]:
    """Answer prompts batch by batch.

    Args:
        model: with or without an adapter.
        prompts: ids of each prompt, from `encode_prompts`.
        first_batch: leave out this many batches; the others are the same as without leaving out.
        adapters: for each prompt the name of its adapter, which the model has, or `"__base__"`; the
            active ones for all if `None`.

    Yields:
        The answers of one batch, without special tokens.

    Raises:
        ValueError: a prompt and ``max_new_tokens`` do not fit the model's positions.
    """
    check_lengths(model.config, prompts, settings)
    for batch in in_batches(prompts, settings.batch_size, first_batch, adapters):
        yield answer_batch(model, tokenizer, batch, settings)


def answer_batch(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    batch: PromptBatch,
    settings: GenerationSettings,
) -> list[str]:
    """Answer the prompts of one batch; nothing but the batch and the settings decides how."""
    collate = PaddingCollator(tokenizer, padding_side="left")
    inputs = collate([{"input_ids": ids} for ids in batch.prompts])
    seed, named = settings.seed + batch.start, {}
    if batch.adapters is not None:
        named["adapter_names"] = batch.adapters
    answers = _generate(model, tokenizer, inputs, settings, seed, **named)
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


@torch.no_grad()
def _generate(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    batch: dict[str, torch.Tensor],
    settings: GenerationSettings,
    seed: int,
    **more: Any,
) -> torch.Tensor:
    """Return the new ids, ``(batch, at most max_new_tokens)``, with draws of our own seed."""
    model.eval()
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        ids = cast(Any, model).generate(
            **batch,
            **settings.arguments(),
            pad_token_id=PaddingCollator(tokenizer).pad_id(),
            **more,
        )
    return ids[:, batch["input_ids"].size(1) :]


def check_lengths(
    config: Any, prompts: list[list[int]], settings: GenerationSettings, taken: int = 0
) -> None:
    """Refuse prompts that, with the answer, are longer than the model of this config.

    Args:
        config: of the model.
        prompts: ids of each.
        settings: of the answers.
        taken: positions that prompts do not get, as an adapter has tokens of its own there.

    Raises:
        ValueError: names the first of them.
    """
    positions = getattr(config, "max_position_embeddings", None)
    room = positions - taken if positions else math.inf
    for number, ids in enumerate(prompts, start=1):
        if len(ids) + settings.max_new_tokens > room:
            raise ValueError(
                f"row {number}: a prompt of {len(ids)} tokens and {settings.max_new_tokens} new "
                f"ones do not fit the {room} positions of the model; expected fewer new ones"
            )


class _Pieces(BaseStreamer):
    """Hands on the text of an answer as it grows, never half a character."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Callable[[str], None]) -> None:
        self.tokenizer = tokenizer
        self.write = write
        self.ids: list[int] = []
        self.written = ""
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (first call; nothing is written) or the next token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.ids.extend(value.flatten().tolist())
        # A token may hold half of a character, which decodes to U+FFFD until the rest is there.
        self._write(self._text().rstrip("\ufffd"))

    def end(self) -> None:
        """Write what was held back: a character that stayed broken."""
        self._write(self._text())

    def _text(self) -> str:
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _write(self, text: str) -> None:
        if text.startswith(self.written) and len(text) > len(self.written):
            self.write(text[len(self.written) :])
            self.written = text


def stream(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    write: Callable[[str], None],
    settings: GenerationSettings | None = None,
) -> str:
    """Answer one prompt, handing on the text piece by piece.

    Args:
        prompt: its ids, see `reftune.encoding.encode_prompt`.
        write: called with each new piece of text.

    Returns:
        The whole answer.

    Raises:
        ValueError: the prompt and ``max_new_tokens`` do not fit the model's positions.
    """
    settings = settings or GenerationSettings()
    check_lengths(model.config, [prompt], settings)
    batch = PaddingCollator(tokenizer)([{"input_ids": prompt}])
    pieces = _Pieces(tokenizer, write)
    ids = _generate(model, tokenizer, batch, settings, settings.seed, streamer=pieces)
    return str(tokenizer.decode(ids[0], skip_special_tokens=True))
