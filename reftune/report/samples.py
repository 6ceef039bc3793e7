"""The first questions of each test set with their answers, as they were scored."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from reftune.report.runs import Run

SCORED = ".scored"
# What a question, and the answer that is right, are called in the files of the tasks.
QUESTION = ("text", "text_pair", "sentence", "sentence1", "sentence2", "instruction")
LONGEST = 4000  # characters of a text that are shown
EXPECTED = ("answer", "label", "expected")
ANSWER = ("output", "prediction", "predicted")


@dataclass(frozen=True)
class Sample:
    """A question and what came of it.

    Attributes:
        question: as the model got it; empty if it is not in the files.
        answer: what the model said.
        found: what was read from that, if it is told.
        expected: what would have been right.
        right: whether it was; `None` where there is no right and wrong.
    """

    question: str
    answer: str
    found: str
    expected: str
    right: bool | None


def samples_of(run: Run, count: int) -> dict[str, list[Sample]]:
    """Return the first `count` samples of each test set, of the first seed that has any.

    Files and lines of another form are left out.
    """
    for one in run.seeds:
        folder = run.folder / f"seed-{one.seed}" / "answers"
        names = {file.name.removesuffix(".jsonl") for file in folder.glob("*.jsonl")}
        names = sorted({name.removesuffix(SCORED) for name in names})
        read = {name: _samples(folder, name, count) for name in names}
        found = {name: samples for name, samples in read.items() if samples}
        if found:
            return found
    return {}


def _samples(folder: Path, name: str, count: int) -> list[Sample]:
    """Read the first lines of the answers, and of the scored ones beside them, if there are any."""
    answered = list(islice(_objects(folder / f"{name}.jsonl"), count))
    scored = list(islice(_objects(folder / f"{name}{SCORED}.jsonl"), count))
    pairs = zip_longest(answered, scored, fillvalue={})
    samples = [_sample({**answer, **score}) for answer, score in pairs]
    return [one for one in samples if one.answer or one.found or one.expected]


def _sample(line: dict[str, Any]) -> Sample:
    names = ("prompt",) if "prompt" in line else QUESTION
    question = [_text(line[key]) for key in names if line.get(key) is not None]
    right, found, expected = line.get("right"), line.get("found"), line.get("answer")
    if not isinstance(right, bool):
        # Of classes, not of numbers, which are never quite the same.
        classes = isinstance(found, str) and isinstance(expected, str)
        right = found == expected if classes else None
    return Sample(
        question="\n".join(question),
        answer=_first(line, ANSWER),
        found=_first(line, ("found",)),
        expected=_first(line, EXPECTED),
        right=right,
    )


def _first(line: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((_text(line[name]) for name in names if line.get(name) is not None), "")


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a JSONL file up to the first that is torn or no object."""
    if not file.is_file():
        return
    # Bytes that are no UTF-8 are shown as such: a sample is for looking at.
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not isinstance(found, dict):
                return
            yield found
