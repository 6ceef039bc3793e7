"""The sets of the tasks without one right answer: instructions, answers in emoji, reviews."""

import json
from pathlib import Path

from comparison.judge import OTHER_USES, Judge
from comparison.rows import CONTINUATION, OPENING, Row, Splits, drawn, reviews, unlike, words
from reftune.assets import EMOJI_TRAIN, EMOJI_UNSEEN

WORDS, LETTERS = 30, 200  # of an instruction and of an answer, at most: below 128 tokens a row
SHORT = 12  # words of a prompt that is to be answered in emoji
UNDECIDED = 1.0  # in nats: the judge's log-odds of an opening that says little


def instructions(folder: Path, train_rows: int) -> Splits:
    """Alpaca to train on, AlpacaEval's prompts to validate and score on.

    The answers of both were written by text-davinci-003. The base model has read Alpaca, but not
    AlpacaEval; of this, what is like any row of Alpaca is left out.
    """
    alpaca = json.loads((folder / "alpaca" / "alpaca_5000.json").read_text(encoding="utf-8"))
    rows = [_instruction(row) for row in alpaca]
    held_out = _alpaca_eval(folder, [row["instruction"] for row in rows])
    held_out = [row for row in held_out if _is_short(row)]
    train = [row for row in drawn(rows) if _is_short(row)]
    return {
        "train": train[:train_rows],
        "validation": held_out[:90],
        "test": held_out[90:240],
    }


def emoji_answers(folder: Path, train_rows: int) -> Splits:
    """The demonstration's examples; its unseen prompts and short ones of AlpacaEval to score on."""
    train = [
        {"instruction": row["prompt"], "answer": row["completion"]} for row in _lines(EMOJI_TRAIN)
    ]
    unseen = [row["prompt"] for row in _lines(EMOJI_UNSEEN)]
    known = [*(row["instruction"] for row in train), *unseen]
    others = [row["instruction"] for row in _alpaca_eval(folder, known)]
    others = [one for one in others if len(words(one)) <= SHORT]
    test, validation = [*unseen, *others[50:170]], others[:50]
    return {
        "train": train[:train_rows],
        **{
            name: [{"instruction": one, "answer": "emoji alone"} for one in prompts]
            for name, prompts in (("validation", validation), ("test", test))
        },
    }


def sentiment(folder: Path, train_rows: int) -> Splits:
    """Openings of reviews: of positive ones to train on, of all to validate and score on.

    Training and validation are from the training reviews that the judge was not fitted on, the
    test set is from the test reviews. Openings that the judge can place are left out of both.
    """
    free = [_parted(row) for row in drawn(reviews(folder, "train"), OTHER_USES) if _is_long(row)]
    judge = Judge.load()
    undecided = [row for row in free if abs(judge.log_odds(row["opening"])) < UNDECIDED]
    validation = undecided[:80]
    positive = [row for row in free if row["label"] and row not in validation]
    tests = [_parted(row) for row in drawn(reviews(folder, "test"), 2000) if _is_long(row)]
    tests = [row for row in tests if abs(judge.log_odds(row["opening"])) < UNDECIDED]
    return {"train": positive[:train_rows], "validation": validation, "test": tests[:160]}


def _instruction(row: Row) -> Row:
    given = row.get("input") or ""
    asked = f"{row['instruction']}\n{given}" if given else row["instruction"]
    return {"instruction": asked, "answer": row["output"]}


def _alpaca_eval(folder: Path, known: list[str]) -> list[Row]:
    """Return AlpacaEval's rows, without those like something known, or like each other."""
    path = folder / "alpaca_eval" / "text_davinci_003_outputs.json"
    rows = drawn(_instruction(row) for row in json.loads(path.read_text(encoding="utf-8")))
    new = unlike([row["instruction"] for row in rows], known)
    return [row for row, one in zip(rows, new, strict=True) if one]


def _is_short(row: Row) -> bool:
    texts = (row["instruction"], row["answer"])
    return all(0 < len(one.split()) <= WORDS and len(one) <= LETTERS for one in texts)


def _is_long(row: Row) -> bool:
    return len(row["text"].split()) >= OPENING + CONTINUATION


def _parted(row: Row) -> Row:
    """Cut a review into its opening and what comes next."""
    text = row["text"].split()
    return {
        "opening": " ".join(text[:OPENING]),
        "continuation": " ".join(text[OPENING : OPENING + CONTINUATION]),
        "label": row["label"],
        "answer": "positive",
    }


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
