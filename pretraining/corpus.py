"""Build the training rows, the held-out documents and the tokenizer, all from fixed seeds.

Held out before anything is trained: every hundredth real document by the hash of its text, and
every fiftieth (template, concept) pair of the grammar by the hash of its key. Documents that
contain one of the prompts of the emoji demonstration are dropped.
"""

import argparse
import hashlib
import json
import logging
import random
import re
from pathlib import Path

import emoji as emoji_names
import numpy as np
from transformers import PreTrainedTokenizerFast

from pretraining.grammar import any_conversation, emoji_meanings
from pretraining.items import keycaps, split_emoji
from pretraining.sources import ROOT, Document, data_folder, real_documents
from pretraining.templates import TEMPLATES
from pretraining.tokenizer import ASSISTANT, BOS, END, PAD, save_tokenizer, train_tokenizer

LOG = logging.getLogger("pretraining.corpus")
ROW = 256
QUESTION_WEIGHT, ANSWER_WEIGHT = 0, 100  # no time is spent on learning to ask
EVERY_OTHER = {"stories"}  # sources of which half is enough: the grammar is what matters here


def demo_prompts() -> set[str]:
    """The prompts of the emoji demonstration, in the form they are compared in."""
    rows: list[str] = []
    for name in ("train.jsonl", "unseen.jsonl"):
        path = ROOT / "reftune" / "assets" / "emoji" / name
        rows += path.read_text(encoding="utf-8").splitlines()
    return {bare(json.loads(row)["prompt"]) for row in rows}


def bare(text: str) -> str:
    """Letters and digits only, case-folded."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def leaks(document: str | list[dict[str, str]], prompts: set[str]) -> bool:
    """Whether a document contains one of ``prompts``."""
    texts = [document] if isinstance(document, str) else [m["content"] for m in document]
    text = " | ".join(bare(text) for text in texts)
    return any(prompt in text for prompt in prompts)


def is_held(key: str, every: int) -> bool:
    """Decide by hash, so that it does not depend on order or amount."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % every == 0


def gather(grammar_documents: int, seed: int) -> tuple[list[Document], list[Document]]:
    """All documents, split into training and held out."""
    prompts, rng = demo_prompts(), random.Random(seed)
    train: list[Document] = []
    held: list[Document] = []
    for source, document in real_documents():
        if leaks(document, prompts):
            continue
        if is_held(str(document), 100):
            held.append((source, document))
        elif source not in EVERY_OTHER or is_held(f"half {document}", 2):
            train.append((source, document))
    held_keys: set[str] = set()
    for _ in range(grammar_documents):
        key, messages = any_conversation(rng)
        if leaks(messages, prompts):
            continue
        if not is_held(key, 50):
            train.append(("grammar", messages))
        elif str(messages) not in held_keys:
            held_keys.add(str(messages))
            held.append(("grammar", messages))
    return train, held


def vocabulary_emoji() -> list[str]:
    """Every emoji of the tables, the templates and the demonstration, and common others."""
    found = dict.fromkeys(sign for _, sign in emoji_meanings())
    found |= dict.fromkeys(s for t in TEMPLATES for s in split_emoji(t.intents))
    found |= dict.fromkeys(s for digit in range(10) for s in keycaps(digit))
    scenes = "➕➖✖️➗➡️⬅️⬆️⬇️🤝👀❤️🚶💭😊😨👫🎁😂🟰⚡️"
    found |= dict.fromkeys(split_emoji(scenes))
    reference = data_folder() / "emoji" / "emoji_pairs.json"
    texts = [path.read_text(encoding="utf-8") for path in (
        reference, ROOT / "reftune" / "assets" / "emoji" / "train.jsonl",
        data_folder() / "tweeteval" / "emoji" / "mapping.txt",
    )]  # fmt: skip
    found |= dict.fromkeys(sign for text in texts for sign in split_emoji(text))
    kept = [sign for sign in found if emoji_names.is_emoji(sign)]
    return [sign for sign in kept if len(sign) <= 12]


def rendered(document: str | list[dict[str, str]]) -> str:
    """A document as the text that is tokenised, special tokens written out."""
    if isinstance(document, str):
        return f"{BOS}{document}{END}"
    ends = {"assistant": END}
    parts = (f"<|{m['role']}|>{m['content']}{ends.get(m['role'], '')}" for m in document)
    return BOS + "".join(parts)


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[tuple]:
    """Token ids and loss weights (in percent) of each document.

    The first token of an answer whose message says ``"start": "given"`` is not learned.
    """
    texts = [rendered(document) for _, document in documents]
    coded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    answer, end = tokenizer.convert_tokens_to_ids([ASSISTANT, END])
    results = []
    for (_, document), code in zip(documents, coded, strict=True):
        ids = code.ids[:ROW]
        weights, inside = [], isinstance(document, str)
        for token in ids:
            weights.append(ANSWER_WEIGHT if inside else QUESTION_WEIGHT)
            inside = isinstance(document, str) or ((inside or token == answer) and token != end)
        if not isinstance(document, str) and "start" in document[-1]:
            weights[ids.index(answer) + 1] = QUESTION_WEIGHT
        results.append((ids, weights))
    return results


def pack(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> dict[str, np.ndarray]:
    """Put whole documents into rows of ``ROW`` tokens, filling open rows first."""
    pad = tokenizer.pad_token_id
    rows: list[tuple[list, list, list]] = []
    still_open: list[int] = []
    for ids, weights in encode(tokenizer, documents):
        place = next((i for i in still_open if len(rows[i][0]) + len(ids) <= ROW), None)
        if place is None:
            rows.append(([], [], []))
            place = len(rows) - 1
            still_open = [*still_open[-40:], place]
        row = rows[place]
        number = (row[2][-1] + 1) if row[2] else 0
        row[0].extend(ids)
        row[1].extend(weights)
        row[2].extend([number] * len(ids))
        if len(row[0]) > ROW - 8:
            still_open.remove(place)
    filled = [(r + [pad] * (ROW - len(r)), w + [0] * (ROW - len(w)), d + [255] * (ROW - len(d)))
              for r, w, d in rows]  # fmt: skip
    kinds = (("rows", np.uint16), ("weights", np.uint8), ("docs", np.uint8))
    return {name: np.array([f[i] for f in filled], kind) for i, (name, kind) in enumerate(kinds)}


def as_text(document: str | list[dict[str, str]]) -> str:
    """A document's text, for the tokenizer's training."""
    return document if isinstance(document, str) else " ".join(m["content"] for m in document)


def build(out: Path, grammar_documents: int, words: int, seed: int) -> None:
    """Write tokenizer, training rows and held-out documents."""
    out.mkdir(parents=True, exist_ok=True)
    train, held = gather(grammar_documents, seed)
    random.Random(seed).shuffle(train)
    sample = [as_text(document) for _, document in train[:60000]]
    signs = vocabulary_emoji()
    plain = [emoji_names.replace_emoji(text, "") for text in sample]
    tokenizer = train_tokenizer(plain, signs, words)
    save_tokenizer(tokenizer, out / "tokenizer")
    packed = pack(tokenizer, train)
    np.savez(out / "train.npz", vocab=len(tokenizer), **packed)
    lines = [json.dumps([s, d], ensure_ascii=False) for s, d in held]
    (out / "held.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    used = float((packed["docs"] != 255).mean())
    LOG.info("vocabulary %d (%d emoji), BOS %s PAD %s", len(tokenizer), len(signs), BOS, PAD)
    LOG.info("%d documents, %d rows, %.3f used", len(train), len(packed["rows"]), used)
    tokens: dict[str, int] = {}
    few = train[:20000]
    for (source, _), (ids, _) in zip(few, encode(tokenizer, few), strict=True):
        tokens[source] = tokens.get(source, 0) + len(ids)
    LOG.info("tokens in 20,000 documents: %s; held out: %d", tokens, len(held))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "pretraining")
    parser.add_argument("--documents", type=int, default=130000)
    parser.add_argument("--words", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    build(args.out, args.documents, args.words, args.seed)
