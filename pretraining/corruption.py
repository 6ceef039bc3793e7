"""Texts in which single tokens are replaced, swapped, left out or put in, to be detected."""

from dataclasses import dataclass

import numpy as np

from pretraining.tokenizer import PAD, SPECIALS

FIRST_WORD = len(SPECIALS) + 1  # the mask's id comes before it
NO_DOCUMENT = 255
# Half of the texts stay as they are; of the others' tokens so many are changed, in these ways.
TEXTS, TOKENS = 0.5, 0.1
WAYS = {"replace": 0.5, "swap": 0.2, "leave out": 0.15, "put in": 0.15}


@dataclass(frozen=True)
class Corrupted:
    """Rows with changes: all arrays are [row, token], as long as the rows given.

    Attributes:
        ids: the tokens that are shown.
        docs: number of each token's text in its row.
        changed: tokens that are not what followed here, or not at their place.
        spoilt: tokens of texts in which anything was changed.
    """

    ids: np.ndarray
    docs: np.ndarray
    changed: np.ndarray
    spoilt: np.ndarray


class Corruption:
    """Changes tokens so that each still fits one of its neighbours.

    What takes a token's place is drawn from those that follow the token before it elsewhere in the
    training rows, or that go before the next one: a generator as in ELECTRA
    (https://arxiv.org/abs/2003.10555), of two tokens and at no cost. Swapping, leaving out and
    putting in are what makes sentences of CoLA unacceptable besides.
    """

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self.flat = rows.reshape(-1)
        counts = np.bincount(self.flat, minlength=int(self.flat.max()) + 1)
        self.begins = np.concatenate([[0], np.cumsum(counts)])
        # Places in the rows, ordered by the token that stands there.
        self.places = np.argsort(self.flat, kind="stable").astype(np.int32)
        self.draw = np.random.default_rng(seed)

    def beside(self, token: int, step: int) -> int:
        """Draw a token that stands ``step`` places after ``token`` somewhere."""
        begin, end = self.begins[token], self.begins[token + 1]
        place = int(self.places[self.draw.integers(begin, end)]) + step
        return int(self.flat[place % len(self.flat)])

    def __call__(self, rows: np.ndarray, docs: np.ndarray) -> Corrupted:
        """Corrupt packed rows, see `pretraining.batches`."""
        parts = [self._row(row, doc) for row, doc in zip(rows, docs, strict=True)]
        ids, docs, changed, spoilt = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        return Corrupted(ids, docs, changed, spoilt)

    def _row(self, row: np.ndarray, docs: np.ndarray) -> tuple[np.ndarray, ...]:
        length = len(row)
        hit = self.draw.random(256) < TEXTS
        inner = np.zeros(length, bool)  # with a neighbour of the same text on both sides
        inner[1:-1] = (docs[:-2] == docs[1:-1]) & (docs[2:] == docs[1:-1])
        chosen = inner & hit[docs] & (docs != NO_DOCUMENT) & (row >= FIRST_WORD)
        chosen &= self.draw.random(length) < TOKENS
        # A change reaches as far as the next token, so two that touch would be one.
        chosen[1:] &= ~chosen[:-1]
        ways = self.draw.choice(list(WAYS), size=length, p=list(WAYS.values()))
        ids, changed, source = [], [], []
        place = 0
        while place < length:
            token, way = int(row[place]), ways[place] if chosen[place] else ""
            place += 1
            if not way:
                new, wrong = [token], [False]
            elif way == "replace":
                before, after = int(row[place - 2]), int(row[place])
                left = self.draw.random() < 0.5
                other = self.beside(before, 1) if left else self.beside(after, -1)
                other = other if other >= FIRST_WORD else token
                new, wrong = [other], [other != token]
            elif way == "put in":
                other = self.beside(token, 1)
                new, wrong = [token, other], [False, True]
                if other < FIRST_WORD:
                    new, wrong = [token], [False]
            else:  # it takes the next token along
                after = int(row[place])
                if after < FIRST_WORD or after == token:
                    new, wrong = [token], [False]
                else:
                    place += 1
                    new, wrong = ([after, token], [True, True])
                    if way == "leave out":
                        new, wrong = [after], [True]
            ids += new
            changed += wrong
            source += [docs[place - 1]] * len(new)
        missing = max(0, length - len(ids))
        ids += [SPECIALS.index(PAD)] * missing
        changed += [False] * missing
        source += [NO_DOCUMENT] * missing
        shown, marks, texts = (np.array(part[:length]) for part in (ids, changed, source))
        spoilt = np.isin(texts, np.unique(texts[marks]))
        return shown.astype(row.dtype), texts.astype(docs.dtype), marks, spoilt
