"""What an answer to an instruction must have at least, checked by program.

It says whether a text is an answer of the asked form at all, not whether it is true or good. Where
a check cannot be sure, it passes.
"""

import re
from collections import Counter
from collections.abc import Callable

from comparison.rows import words
from reftune.data import Row

TOO_SHORT_TO_BE_CUT = 25  # words; an answer that the token limit has cut has more
ENDINGS = tuple(".!?:;\"')]}…”’")
NUMBERS = {
    name: number
    for number, name in enumerate(("two three four five six seven eight nine ten").split(), start=2)
}
STOP_WORDS = frozenset(
    "about after again all also and any are because been before being but can could describe did "
    "does each example explain following for from generate give had has have her here him his how "
    "identify into its just like list made make many may more most much must name not now off one "
    "only other our out over own please provide same sentence she should some such suggest tell "
    "than that the their them then there these they this those through too under using very was "
    "way were what when where which while who whom why will with word would write you your".split()
)
_COUNT = re.compile(
    rf"\b(?:list|name|give(?: me)?|write|suggest|provide|generate|create|find)(?: down)?\s+"
    rf"(?:the\s+|at least\s+)?({'|'.join(NUMBERS)}|[2-9]|10)\s+[a-z]"
)
_QUESTION = re.compile(
    r"\b(?:write|generate|create|compose|formulate|ask|come up with|suggest)(?: me)?\s+"
    r"(?:a|an|one|some|[0-9]+|two|three|four|five)\s+(?:[a-z-]+\s+)?questions?\b"
)
_NUMBERED = re.compile(r"(?:^|\s)\(?\d{1,2}[.):]\s")


def is_not_empty(text: str, row: Row) -> bool:
    """Whether there is a word or a number."""
    return bool(words(text))


def ends(text: str, row: Row) -> bool:
    """Whether the answer ended by itself, and not at the token limit.

    It is known by the mark at its end; of a short one, which the limit cannot have cut, it need
    not stand there.
    """
    return text.rstrip().endswith(ENDINGS) or len(text.split()) < TOO_SHORT_TO_BE_CUT


def does_not_repeat(text: str, row: Row) -> bool:
    """Whether no four words in a row occur three times."""
    found = words(text)
    counts = Counter(zip(*(found[start:] for start in range(4)), strict=False))
    return max(counts.values(), default=0) < 3


def is_about_it(text: str, row: Row) -> bool:
    """Whether a content word of the instruction or of the reference occurs, in any ending."""
    asked = _content(f"{row['instruction']} {row['answer']}")
    return not asked or bool(asked & _content(text))


def has_the_items(text: str, row: Row) -> bool:
    """Whether there are as many items as were asked for, however they are set apart."""
    asked = _COUNT.search(row["instruction"].lower())
    if asked is None:
        return True
    wanted = NUMBERS.get(asked[1]) or int(asked[1])
    lines = [line for line in text.splitlines() if line.strip()]
    parts = re.split(r",\s*(?:and\s+)?|;\s*|\s+and\s+", text)
    counts = (len(_NUMBERED.findall(text)), len(lines), len(_sentences(text)), len(parts))
    return max(counts) >= wanted


def is_the_asked_form(text: str, row: Row) -> bool:
    """Whether a question is one, a single word is one, and a single sentence is one."""
    asked = row["instruction"].lower()
    if _QUESTION.search(asked) and "?" not in text:
        return False
    if re.search(r"\b(?:in|with|using) (?:one|a single) word\b", asked):
        return len(text.split()) == 1
    if re.search(r"\b(?:in|into|with) (?:one|a single) sentence\b", asked):
        return len(_sentences(text)) == 1
    return True


CHECKS: dict[str, Callable[[str, Row], bool]] = {
    "empty": is_not_empty,
    "cut off": ends,
    "repeats itself": does_not_repeat,
    "about something else": is_about_it,
    "too few items": has_the_items,
    "another form": is_the_asked_form,
}


def failures(text: str, row: Row) -> list[str]:
    """Return what is wrong with an answer, by the names of `CHECKS`; nothing if it passes.

    Args:
        text: the answer.
        row: with `"instruction"` and the reference `"answer"`.
    """
    return [name for name, check in CHECKS.items() if not check(text, row)]


def _content(text: str) -> set[str]:
    """Return the beginnings of the content words, which endings leave alone, and the numbers."""
    return {
        word[:5]
        for word in words(text)
        if word.isdigit() or (len(word) > 2 and word not in STOP_WORDS)
    }


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])[\"')]?\s+", text.strip())
    return [part for part in parts if words(part)]
