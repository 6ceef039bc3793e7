"""The tasks without one right answer, as `reftune.experiments` runs them.

Prompts of instructions and of emoji are turns of a chat, in the form that the base model knows
from its training.
"""

from comparison.judge import Judge
from comparison.rubric import failures
from reftune.data import Row
from reftune.emoji_text import is_emoji_only
from reftune.tasks import TASKS, Judged, Task


def _turn(row: Row) -> str:
    return f"<|user|>{row['instruction'].strip()}<|assistant|>"


def _judge_instruction(text: str, row: Row) -> Judged:
    failed = failures(text, row)
    return Judged(", ".join(failed) or "passes", not failed)


def _judge_emoji(text: str, row: Row) -> Judged:
    alone = is_emoji_only(text)
    return Judged("emoji alone" if alone else "other text", alone)


def _judge_sentiment(text: str, row: Row) -> Judged:
    """Judge the continuation alone: the opening is the same for all methods."""
    positive = Judge.load().is_positive(text)
    return Judged("positive" if positive else "negative", positive)


INSTRUCTIONS = Task(
    loss=True,
    name="alpaca",
    source="Stanford Alpaca and AlpacaEval",
    train=("train",),
    tests=("test",),
    prompt=_turn,
    completion=lambda row: row["answer"],
    judge=_judge_instruction,
    max_new_tokens=60,
)
EMOJI = Task(
    name="emoji-answers",
    source="the emoji tutorial of ReFT",
    train=("train",),
    tests=("test",),
    prompt=_turn,
    completion=lambda row: row["answer"],
    judge=_judge_emoji,
    max_new_tokens=24,
)
SENTIMENT = Task(
    name="sentiment",
    source="IMDB",
    train=("train",),
    tests=("test",),
    prompt=lambda row: row["opening"],
    completion=lambda row: " " + row["continuation"],
    judge=_judge_sentiment,
    max_new_tokens=40,
)
OPEN = {task.name: task for task in (INSTRUCTIONS, EMOJI, SENTIMENT)}


def register() -> None:
    """Add the tasks to those that recipes can name, as one adds a task of one's own."""
    TASKS.update(OPEN)
