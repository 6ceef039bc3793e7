"""From tokens to text, piece by piece: never half a character, never a part of a stop string.

Knows a tokenizer for its `decode` only.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"  # what the bytes of half a character decode to
# So many tokens without a whole character are garbage, and are handed out as such: decoding them
# again with every further token would take time that grows with the square of their number.
PATIENCE = 64


class Detokenizer:
    """Text of an answer as its tokens arrive; together the pieces are the text of all tokens.

    The text of a token depends on its neighbours (a space in front of a word, a character of
    several tokens), so every piece is the difference between two decoded windows: the tokens whose
    text is out already but stand before what is new, and those with the new ones.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []  # their text is out
        self._held: list[int] = []  # their text is not

    def take(self, token: int) -> str:
        """Return the text that this token completes; often one word, sometimes nothing."""
        self._held.append(token)
        text = self._new_text()
        if not text or (text.endswith(BROKEN) and len(self._held) < PATIENCE):
            return ""
        return self._out(text)

    def end(self) -> str:
        """Return what was held back: a character that stayed broken."""
        return self._out(self._new_text())

    def _new_text(self) -> str:
        known = self._decode(self._before)
        return self._decode(self._before + self._held)[len(known) :]

    def _out(self, text: str) -> str:
        self._before, self._held = self._held, []
        return text

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class StopStrings:
    """Cuts a growing text before the first stop string in it.

    Text that may still become a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def take(self, text: str) -> str:
        """Return the text that is safe to hand out; `found` says whether the answer ends here."""
        held = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            # The one that is whole first: so it does not matter in which pieces the text comes.
            self.found = True
            self._held = ""
            return held[: min(found)[1]]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        safe, self._held = held[: len(held) - keep], held[len(held) - keep :]
        return safe

    def end(self) -> str:
        """Return what was held back and became no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Count the characters at the end of ``text`` that ``stop`` may begin with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
