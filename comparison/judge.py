"""Judging whether a text about a film is positive: naive Bayes on words, fitted on IMDB.

It knows nothing of the models and methods that are compared. `python -m comparison.judge ASSETS`
fits it on IMDB's training reviews, without those that are used for anything else, measures it on
the test reviews, and writes both to `judge.json`. A fragment is as long as a continuation.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from comparison.rows import CONTINUATION, OPENING, Row, drawn, reviews, words
from reftune.output_folder import write_atomically

FILE = Path(__file__).with_name("judge.json")
OTHER_USES = 2500  # of the drawn training reviews, the first: the encoder's task and the openings
FEWEST = 60  # reviews that have a word; of rarer ones nothing is known


@dataclass(frozen=True)
class Judge:
    """Naive Bayes with a word counted once per text.

    Attributes:
        weights: of a word, `log p(word | positive) - log p(word | negative)`, in nats.
        accuracy: on test reviews, `"reviews"` and `"fragments"` of them; empty if not measured.
        rows: how many reviews it was fitted on.
    """

    weights: dict[str, float]
    accuracy: dict[str, float]
    rows: int

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> "Judge":
        """Fit to reviews with `"text"` and `"label"`, as many of the one kind as of the other."""
        counts = {label: Counter[str]() for label in (0, 1)}
        for row in rows:
            counts[row["label"]].update(set(words(row["text"])))
        totals = {label: sum(found.values()) for label, found in counts.items()}
        negative, positive = counts[0], counts[1]
        kept = [one for one in positive | negative if positive[one] + negative[one] >= FEWEST]

        def log_share(label: int, word: str) -> float:
            return math.log((counts[label][word] + 1) / (totals[label] + len(kept)))

        weights = {one: round(log_share(1, one) - log_share(0, one), 3) for one in sorted(kept)}
        return cls(weights, {}, len(rows))

    @classmethod
    def load(cls) -> "Judge":
        """Return the judge that the comparison uses."""
        return _loaded()

    def log_odds(self, text: str) -> float:
        """Return the log-odds that a text is positive; 0 if it has no known word."""
        return sum(self.weights.get(word, 0.0) for word in set(words(text)))

    def is_positive(self, text: str) -> bool:
        """Say whether a text is positive; of one that says nothing, no."""
        return self.log_odds(text) > 0

    def accuracy_on(self, rows: Sequence[Row]) -> float:
        """Return the share of reviews that are judged as they are labelled."""
        return sum(self.is_positive(row["text"]) == bool(row["label"]) for row in rows) / len(rows)


@cache
def _loaded() -> Judge:
    return Judge(**json.loads(FILE.read_text(encoding="utf-8")))


def measured(folder: Path) -> Judge:
    """Fit a judge and measure it.

    Raises:
        FileNotFoundError: the folder has no `imdb`.
    """
    judge = Judge.fit(drawn(reviews(folder, "train"))[OTHER_USES:])
    tests = reviews(folder, "test")
    cut = slice(OPENING, OPENING + CONTINUATION)
    parts = [{**row, "text": " ".join(row["text"].split()[cut])} for row in tests]
    accuracy = {"reviews": judge.accuracy_on(tests), "fragments": judge.accuracy_on(parts)}
    return Judge(judge.weights, accuracy, judge.rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("assets", type=Path, help="the folder with data/imdb")
    found = measured(parser.parse_args().assets / "data")
    write_atomically(FILE, json.dumps(asdict(found), indent=0, ensure_ascii=False) + "\n")
