"""The real text: stories, short instructions, tweets and reviews, found by REFTUNE_ASSETS."""

import json
import lzma
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

Messages = list[dict[str, str]]
Document = tuple[str, str | Messages]

ROOT = Path(__file__).resolve().parent.parent
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
ODD = re.compile(r"[^\x20-\x7e\n]|http|```|\||\{|<|@")


def data_folder() -> Path:
    """Where the real data lies: ``$REFTUNE_ASSETS/data``.

    Raises:
        SystemExit: there is no such folder.
    """
    assets = os.environ.get("REFTUNE_ASSETS", "")
    if not assets or not (folder := Path(assets) / "data").is_dir():
        raise SystemExit(f'REFTUNE_ASSETS is "{assets}": expected a folder with the real text')
    return folder


def ask(question: str, answer: str) -> Messages:
    """One turn."""
    user = {"role": "user", "content": question}
    return [user, {"role": "assistant", "content": answer}]


def shorten(text: str, limit: int) -> str:
    """Keep whole sentences up to ``limit`` characters; nothing if the first is too long."""
    kept = ""
    for sentence in SENTENCE_END.split(text.strip()):
        if len(kept) + len(sentence) > limit:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


def straighten(text: str) -> str:
    """Use plain quotes and dashes, and single spaces."""
    for odd, plain in (("\u201c", '"'), ("\u201d", '"'), ("\u2019", "'"), ("\u2018", "'")):
        text = text.replace(odd, plain)
    text = re.sub("[\u2013\u2014]", "-", text)
    return re.sub(r"[ \t]+", " ", re.sub(r"\s*\n\s*", " ", text)).strip()


def recapitalise(story: str) -> str:
    """Give a lower-cased story its sentence capitals, its names' capitals and its I back."""
    story = re.sub(r"(^|[.!?]\"? +\"?|^\"|, \")([a-z])", lambda m: m[1] + m[2].upper(), story)
    names = "lily|tom|tim|timmy|ben|mia|sue|max|sam|lucy|anna|jack|sara|sarah|mom|dad|spot|tommy"
    story = re.sub(rf"\b({names})\b", lambda m: m[1].capitalize(), story)
    return re.sub(r"\bi('m|'ll|'ve|'d)?\b", lambda m: m[0].replace("i", "I", 1), story)


def stories() -> Iterator[Document]:
    """TinyStories, some as the answer to a request."""
    rng = random.Random(3)
    folder = data_folder() / "text"
    small = (folder / "tinystories_2M.txt").read_text(encoding="utf-8", errors="ignore")
    large = (folder / "tinystories_4M.txt").read_text(encoding="utf-8", errors="ignore")
    first = small.split("<|endoftext|>")
    second = re.split(r"(?<!\n)\n(?!\n)", large)
    seen: set[str] = set()
    for raw in [*first, *map(recapitalise, map(straighten, second))]:
        story = straighten(raw)
        start = re.sub("[^a-z]", "", story[:150].lower())
        if start in seen:
            continue
        seen.add(start)
        if not 150 < len(story) < 6000 or ODD.search(story):
            continue
        if rng.random() < 0.25:
            requests = ("Tell me a story.", "Write a short story.", "Can you tell me a story?")
            yield "stories", ask(rng.choice(requests), shorten(story, 500) or story[:300])
        else:
            yield "stories", shorten(story, 950)


def instruction_rows() -> Iterator[tuple[str, str, str, str]]:
    """(source, instruction, input, output) of all instruction files."""
    folder = data_folder()
    files = (
        ("alpaca", folder / "alpaca" / "alpaca_5000.json"),
        ("alpaca", folder / "llamafactory" / "alpaca_en_demo.json"),
        ("lima", folder / "llamafactory" / "lima.json"),
        ("ultrafeedback", folder / "ultrafeedback" / "ultrafeedback_1k.json"),
    )
    for source, path in files:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if text.lstrip()[0] == "[" else map(json.loads, text.splitlines())
        for row in rows:
            yield source, row["instruction"], row.get("input") or "", row["output"]
    for row in json.loads((folder / "alpaca" / "selected_alpaca_data.json").read_text()):
        match = re.fullmatch(r'Instruction: "(.*)" Generation:', row["base_prompt"], re.DOTALL)
        if match and "Sorry I don't know" not in row["label"]:
            yield "alpaca", match[1], "", row["label"]


def instructions() -> Iterator[Document]:
    """Short instructions with the first sentences of their answers."""
    for source, instruction, given, output in instruction_rows():
        question = straighten(f"{instruction} {given}")
        if "\n1." in output or "\n- " in output:
            output = output.split("\n")[0]
        answer = shorten(straighten(output), 260)
        if answer.endswith(":") or len(answer) < 2 or len(question) > 220:
            continue
        if not ODD.search(question + answer):
            yield source, ask(question, answer)


def tweets(limit: int = 3000) -> Iterator[Document]:
    """TweetEval emoji: which emoji fits a post."""
    folder = data_folder() / "tweeteval" / "emoji"
    mapping = (folder / "mapping.txt").read_text(encoding="utf-8").splitlines()
    signs = [line.split("\t")[1] for line in mapping]
    signs = [{"❤": "❤️", "☀": "☀️"}.get(sign, sign) for sign in signs]
    texts = (folder / "train_text.txt").read_text(encoding="utf-8").splitlines()
    labels = (folder / "train_labels.txt").read_text().split()
    for text, label in zip(texts[: limit * 2], labels[: limit * 2], strict=True):
        text = straighten(re.sub(r"@ ?\S+|http\S+|#|[^\x20-\x7e]", "", text).split("@")[0])
        if 15 < len(text) < 110 and not ODD.search(text):
            yield "tweets", ask(f"Which emoji fits this post? {text}", signs[int(label)])


def reviews(limit: int = 1500) -> Iterator[Document]:
    """IMDB: is the opening of a review positive or negative."""
    with lzma.open(data_folder() / "imdb" / "imdb_train.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(5).shuffle(rows)
    for row in rows[:limit]:
        text = shorten(straighten(row["text"].replace("<br />", " ")), 200)
        label = row["label"]
        positive = label in (1, "1", "pos", "positive")
        if len(text) > 40 and not ODD.search(text):
            answer = "Positive." if positive else "Negative."
            yield "reviews", ask(f"Is this review positive or negative? {text}", answer)


def real_documents() -> Iterator[Document]:
    """Every real document once, with the name of its source."""
    seen: set[str] = set()
    for maker in (stories, instructions, tweets, reviews):
        for source, document in maker():
            text = document if isinstance(document, str) else str(document)
            if text and text not in seen:
                seen.add(text)
                yield source, document
