"""Drawing rows from real sets, the same ones every time, and telling rows that are alike."""

import json
import lzma
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Splits = dict[str, list[Row]]  # by "train", "validation" and, where there is one, "test"
SEED = 5
ALIKE = 0.6
OPENING, CONTINUATION = 12, 30  # words of a review: about 16 and 40 tokens


def drawn(rows: Iterable[Row], count: int | None = None) -> list[Row]:
    """Return so many of the rows, all if nothing is said, in a random order that is always so."""
    shuffled = list(rows)
    random.Random(SEED).shuffle(shuffled)
    return shuffled[:count]


def reviews(folder: Path, name: str) -> list[Row]:
    """Return IMDB's reviews of a split, positive (`"label"` 1) or negative (0)."""
    with lzma.open(folder / "imdb" / f"imdb_{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        {
            "text": row["text"].replace("<br />", " "),
            "label": int(row["label"] in (1, "1", "pos", "positive")),
        }
        for row in rows
    ]


def words(text: str) -> list[str]:
    """Return the words and numbers of a text, in lower case.

    >>> words("Don't list 3 (or four)!")
    ["don't", 'list', '3', 'or', 'four']
    """
    return re.findall(r"[a-z]+(?:'[a-z]+)*|[0-9]+", text.lower())


def unlike(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Say of each text whether it is no near-duplicate of one of the others, or of one before it.

    Two are alike if the words in both are 60 % or more of the words in either.
    """
    known = [set(words(one)) for one in others]
    found = []
    for text in texts:
        mine = set(words(text))
        found.append(not any(_alike(mine, other) for other in known))
        known.append(mine)
    return found


def _alike(one: set[str], other: set[str]) -> bool:
    if min(len(one), len(other)) < ALIKE * max(len(one), len(other)):
        return False  # whatever they share; most pairs end here
    shared = len(one & other)
    return shared >= ALIKE * (len(one) + len(other) - shared)
