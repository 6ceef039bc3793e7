"""Build the rows of the two base models and their common vocabulary, from fixed seeds.

Held out before anything is trained: every two-hundredth text by its hash.
"""

import argparse
import json
import logging
from collections import Counter
from pathlib import Path

import emoji as emoji_names
import numpy as np

from pretraining.base_text import base_text
from pretraining.corpus import gather, is_held, pack, vocabulary_emoji
from pretraining.sources import ROOT, Document
from pretraining.tokenizer import save_tokenizer, train_tokenizer

LOG = logging.getLogger("pretraining.base_corpus")
SIZES = {"encoder": 500, "decoder": 900}  # characters of a text: half a row of tokens, and a row
CHATS = 30000  # documents of the chat model's grammar, for the decoder


def conversations() -> tuple[list[Document], list[Document]]:
    """What the chat model learns from, but for its reviews: they say which are positive."""
    train, held = gather(CHATS, seed=11)
    wanted = ("grammar", "alpaca", "lima", "ultrafeedback")
    return tuple([d for d in part if d[0] in wanted] for part in (train, held))


def build(out: Path, words: int) -> None:
    """Write the tokenizer, and the training rows and held-out texts of each model."""
    texts = {name: base_text(limit) for name, limit in SIZES.items()}
    signs = vocabulary_emoji()
    sample = [text for _, text in texts["decoder"][:60000]]
    plain = [emoji_names.replace_emoji(text, "") for text in sample]
    tokenizer = train_tokenizer(plain, signs, words, masked=True)
    save_tokenizer(tokenizer, out / "tokenizer")
    LOG.info("vocabulary %d (%d emoji)", len(tokenizer), len(signs))
    for name, documents in texts.items():
        train: list[Document] = [d for d in documents if not is_held(d[1], 200)]
        held: list[Document] = [d for d in documents if is_held(d[1], 200)]
        if name == "decoder":
            chats, held_chats = conversations()
            train, held = train + chats, held + held_chats
        packed = pack(tokenizer, train)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "train.npz", vocab=len(tokenizer), **packed)
        lines = [json.dumps(document, ensure_ascii=False) for document in held]
        (folder / "held.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        used = (packed["docs"] != 255).sum()
        counts = dict(Counter(source for source, _ in train))
        LOG.info("%s: %d rows, %d tokens, %s", name, len(packed["rows"]), used, counts)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "base-models")
    parser.add_argument("--words", type=int, default=7400)
    args = parser.parse_args()
    build(args.out, args.words)
