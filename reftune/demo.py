"""The emoji chatbot of the ReFT tutorial, on the model and the examples that come with reftune."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    set_seed,
)

from reftune.assets import EMOJI_TRAIN, EMOJI_UNSEEN, TINY_CHAT
from reftune.config import ReftConfig
from reftune.data import load_rows
from reftune.emoji_text import is_emoji_only
from reftune.generation import GenerationSettings, Model, encode_prompts, generate_answers
from reftune.output_folder import Existing, check_output
from reftune.training import TrainingRecipe, train

# One rank-4 LoReFT at one layer on the last prompt token: few enough numbers to write down.
LAYER, RANK, POSITIONS = 1, 4, "l1"
RECIPE = TrainingRecipe(epochs=40, lr=2.5e-3, batch_size=10, warmup=0, save_steps=0)
ANSWERS = GenerationSettings(max_new_tokens=48, batch_size=30)
SHOWN = 6

Show = Callable[[str, dict[str, list[str]]], None]


@dataclass(frozen=True)
class DemoResult:
    """The answers of both models to the unseen prompts, and what training took.

    The shares are of answers that are emoji alone, between 0 and 1.
    """

    prompts: list[str]
    base_answers: list[str]
    adapter_answers: list[str]
    base_share: float
    adapter_share: float
    same_after_loading: bool
    trainable_parameters: int
    adapter_bytes: int
    seconds: float
    adapter: str


def run_demo(out: Path, show: Show, existing: Existing = "refuse") -> DemoResult:
    """Train the emoji adapter into the folder ``out`` and compare before and after.

    Args:
        out: folder for the adapter.
        show: called with a title and columns of text (perhaps none) as results arrive.
        existing: what may be in the folder, see `reftune.output_folder`.

    Raises:
        OSError: ``out`` holds something and ``existing`` is ``"refuse"``.
    """
    check_output(out, existing)
    rows, unseen = load_rows(EMOJI_TRAIN), load_rows(EMOJI_UNSEEN, answers=False)
    prompts = list(unseen["prompt"])
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    base = load_base()
    before = ask(base, tokenizer, unseen)
    columns = {"prompt": prompts[:SHOWN], "the base model": before[:SHOWN]}
    show("The base model answers prompts that training will not see:", columns)

    show(f"One LoReFT of rank {RANK} at layer {LAYER} learns from {len(rows)} examples:", {})
    set_seed(RECIPE.seed)
    model = get_peft_model(base, adapter_config())
    assert isinstance(model, PeftModel)
    trained = train(model, tokenizer, rows, out, RECIPE, existing)
    after = ask(model, tokenizer, unseen)
    show("The same prompts, before and after:", {**columns, "with the adapter": after[:SHOWN]})

    fresh = load_base().to(model.device)
    again = ask(PeftModel.from_pretrained(fresh, str(out)), tokenizer, unseen)
    return DemoResult(
        prompts,
        before,
        after,
        emoji_share(before),
        emoji_share(after),
        again == after,
        trained.trainable_parameters,
        trained.adapter_bytes,
        trained.seconds,
        str(out),
    )


def adapter_config() -> ReftConfig:
    """Make the demo's adapter."""
    return ReftConfig(task_type="CAUSAL_LM", layers=[LAYER], r=RANK, positions=POSITIONS)


def load_base() -> Any:
    """Load a fresh bundled model."""
    return AutoModelForCausalLM.from_pretrained(TINY_CHAT).eval()


def ask(model: Model, tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> list[str]:
    """Answer all rows, greedily."""
    batches = generate_answers(model, tokenizer, encode_prompts(rows, tokenizer), ANSWERS)
    return [answer for batch in batches for answer in batch]


def emoji_share(answers: list[str]) -> float:
    """Return the share of answers that are emoji alone."""
    return sum(map(is_emoji_only, answers)) / len(answers)
