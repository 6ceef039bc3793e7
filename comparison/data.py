"""The sets that methods are compared on, drawn from the real ones with a fixed seed.

They are subsamples, so that every method can be tuned and run over seeds on two cores. Where the
real test set has no labels (GLUE), the validation set takes its place, and half of it chooses the
epoch, as in the ReFT paper.
"""

import csv
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from comparison.open_sets import emoji_answers, instructions, sentiment
from comparison.rows import Row, Splits, drawn, reviews
from reftune.output_folder import write_atomically

# Columns of GLUE's files: of the texts, of the label, and whether the first line names them.
GLUE = {
    "SST-2": (("sentence",), (0,), 1, True),
    "CoLA": (("sentence",), (3,), 1, False),
    "MRPC": (("sentence1", "sentence2"), (3, 4), 0, True),
    "RTE": (("sentence1", "sentence2"), (1, 2), 3, True),
    "STS-B": (("sentence1", "sentence2"), (7, 8), 9, True),
}
LARGE = 1100  # rows of a validation set


def glue(folder: Path, name: str, train_rows: int) -> Splits:
    """A task of GLUE, in the columns of its set on the hub."""
    names, texts, label, header = GLUE[name]

    def rows_of(split: str) -> list[Row]:
        path = folder / "glue" / name / f"{split}.tsv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[int(header) :]
        whole = [line for line in lines if len(line) > max(*texts, label)]
        return [
            {
                **dict(zip(names, (line[i] for i in texts), strict=True)),
                "label": _label(line[label]),
            }
            for line in whole
        ]

    dev = rows_of("dev")
    if len(dev) > LARGE:  # to score all of it, epoch after epoch, takes longer than to train
        dev = drawn(dev, 600)
    return {"train": drawn(rows_of("train"), train_rows), "validation": dev}


def _label(text: str) -> int | float | str:
    if text in ("entailment", "not_entailment"):
        return int(text == "not_entailment")
    return float(text) if "." in text else int(text)


def imdb(folder: Path, train_rows: int) -> Splits:
    """Reviews, positive (1) or negative (0)."""

    return _with_validation(reviews(folder, "train"), reviews(folder, "test"), train_rows, 150, 400)


def emoji(folder: Path, train_rows: int) -> Splits:
    """Posts, and which of twenty emoji each had (TweetEval)."""

    def rows_of(split: str) -> list[Row]:
        parts = [
            (folder / "tweeteval" / "emoji" / f"{split}_{part}.txt").read_text(encoding="utf-8")
            for part in ("text", "labels")
        ]
        texts, labels = (part.rstrip("\n").split("\n") for part in parts)
        return [{"text": t, "label": int(n)} for t, n in zip(texts, labels, strict=True)]

    return {
        "train": drawn(rows_of("train"), train_rows),
        "validation": drawn(rows_of("val"), 300),
        "test": drawn(rows_of("test"), 600),
    }


def commonsense(folder: Path, name: str, train_rows: int) -> Splits:
    """Questions in the form of LLM-Adapters."""
    train, test = (
        json.loads((folder / "commonsense" / name / f"{split}.json").read_text(encoding="utf-8"))
        for split in ("train", "test")
    )
    return _with_validation(train, test, train_rows, 60, 150)


def write_sets(task: str, assets: Path, out: Path, train_rows: int) -> Path:
    """Write the sets of a task as `OUT/TASK-ROWS-HOW/SPLIT.jsonl`, unless they are there.

    Raises:
        FileNotFoundError: the real sets are not in the assets.
        KeyError: there is no such task.
    """
    folder = out / f"{task}-{train_rows}-{_how_they_are_made()}"
    if not (folder / "train.jsonl").exists():
        for split, rows in reversed(MAKERS[task](assets / "data", train_rows).items()):
            folder.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(folder / f"{split}.jsonl", lines)
    return folder


@cache
def _how_they_are_made() -> str:
    """Return a digest of what makes the sets."""
    names = ("data.py", "open_sets.py", "rows.py", "judge.py", "judge.json")
    programs = (Path(__file__).parent / name for name in names)
    return hashlib.sha256(b"".join(one.read_bytes() for one in programs)).hexdigest()[:8]


def _with_validation(
    train: list[Row], test: list[Row], train_rows: int, validation_rows: int, test_rows: int
) -> Splits:
    taken = drawn(train, train_rows + validation_rows)
    return {
        "train": taken[validation_rows:],
        "validation": taken[:validation_rows],
        "test": drawn(test, test_rows),
    }


MAKERS: dict[str, Callable[[Path, int], Splits]] = {
    "sst2": lambda folder, rows: glue(folder, "SST-2", rows),
    "cola": lambda folder, rows: glue(folder, "CoLA", rows),
    "mrpc": lambda folder, rows: glue(folder, "MRPC", rows),
    "rte": lambda folder, rows: glue(folder, "RTE", rows),
    "stsb": lambda folder, rows: glue(folder, "STS-B", rows),
    "imdb": imdb,
    "emoji": emoji,
    "boolq": lambda folder, rows: commonsense(folder, "boolq", rows),
    "arc-e": lambda folder, rows: commonsense(folder, "ARC-Easy", rows),
    "obqa": lambda folder, rows: commonsense(folder, "openbookqa", rows),
    "alpaca": instructions,
    "emoji-answers": emoji_answers,
    "sentiment": sentiment,
}
