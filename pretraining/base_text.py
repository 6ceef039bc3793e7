"""Plain text for the two base models that methods are compared on: reviews, stories, sentences.

Test and validation sets are left out, the reviews of IMDB's test set too.
"""

import csv
import json
import lzma
import random
import re
from collections.abc import Callable, Iterator

from pretraining.sources import SENTENCE_END, data_folder, instruction_rows, stories, straighten
from pretraining.tokenizer import END

Text = tuple[str, str]  # source and text
GLUE_COLUMNS = {
    "CoLA": (3,),
    "SST-2": (0,),
    "MRPC": (3, 4),
    "RTE": (1, 2),
    "STS-B": (7, 8),
    "WNLI": (1, 2),
}
COMMONSENSE = ("ARC-Easy", "ARC-Challenge", "openbookqa", "boolq", "hellaswag_4k")


def pieces(text: str, limit: int) -> Iterator[str]:
    """Cut a text between sentences into parts of about ``limit`` characters."""
    part = ""
    for sentence in SENTENCE_END.split(text):
        if part and len(part) + len(sentence) > limit:
            yield part
            part = ""
        part = f"{part} {sentence[: 2 * limit]}".strip()
    if part:
        yield part


def reviews() -> Iterator[str]:
    """IMDB's labelled training reviews and the unlabelled ones."""
    for name in ("imdb_train", "imdb_unsup"):
        with lzma.open(data_folder() / "imdb" / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            for line in file:
                yield straighten(json.loads(line)["text"].replace("<br />", " "))


def articles() -> Iterator[str]:
    """Wikipedia, web pages, Alice, Shakespeare."""
    folder = data_folder()
    for name in ("wikitext2_valid", "wikitext2_test", "alice_in_wonderland", "tinyshakespeare"):
        raw = (folder / "text" / f"{name}.txt").read_text(encoding="utf-8")
        yield straighten(re.sub(r" ([.,;:!?'])", r"\1", raw.replace(" @-@ ", "-")))
    yield straighten((folder / "llamafactory" / "wiki_demo.txt").read_text(encoding="utf-8"))
    for line in (folder / "llamafactory" / "c4_demo.jsonl").read_text("utf-8").splitlines():
        yield straighten(json.loads(line)["text"])


def tweets() -> Iterator[str]:
    """Posts, without the emoji that were taken out of them."""
    path = data_folder() / "tweeteval" / "emoji" / "train_text.txt"
    yield from map(straighten, path.read_text(encoding="utf-8").splitlines())


def instructions() -> Iterator[str]:
    """Instructions and their answers, as one text."""
    for _, question, given, answer in instruction_rows():
        yield straighten(f"{question} {given} {answer}")


def questions() -> Iterator[str]:
    """The training questions of the commonsense tasks with their right answers, written out."""
    for name in COMMONSENSE:
        path = data_folder() / "commonsense" / name / "train.json"
        text = path.read_text(encoding="utf-8").lstrip()
        rows = json.loads(text) if text[0] == "[" else map(json.loads, text.splitlines())
        for row in rows:
            found = re.search(r"question: (.*?)\n", row["instruction"])
            choice = re.search(
                rf"{row['answer']}: (.*?)(?: Answer\d:|$)", row["instruction"], re.M | re.I
            )
            if found:
                yield straighten(f"{found[1]} {choice[1] if choice else ''}")


def glue(pair: str) -> Iterator[str]:
    """GLUE's training sentences, those of a pair with ``pair`` between them."""
    for name, columns in GLUE_COLUMNS.items():
        path = data_folder() / "glue" / name / "train.tsv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)):
                if (name == "CoLA" or number) and len(row) > max(columns):
                    yield pair.join(straighten(row[column]) for column in columns)


def told() -> Iterator[str]:
    """TinyStories, also those that are told on request."""
    for _, document in stories():
        yield document if isinstance(document, str) else document[-1]["content"]


def base_text(limit: int, pair: str = END) -> list[Text]:
    """Every text once, cut into parts of about ``limit`` characters, in a fixed random order."""
    sources: dict[str, Callable[[], Iterator[str]]] = {
        "reviews": reviews,
        "articles": articles,
        "stories": told,
        "tweets": tweets,
        "instructions": instructions,
        "questions": questions,
        "glue": lambda: glue(pair),
    }
    texts = {
        part: source for source, read in sources.items() for text in read()
        for part in ([text] if source == "glue" else pieces(text, limit))
    }  # fmt: skip
    found = [(source, text) for text, source in texts.items()]
    random.Random(17).shuffle(found)
    return found
