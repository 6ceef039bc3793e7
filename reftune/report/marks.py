"""The colour and the mark of a method: the same in every picture.

The colours can be told apart with every kind of colour blindness (they are near to those of Okabe
and Ito) and have a contrast of 3 or more to white and to the page's dark ground. No method is known
by its colour alone: marks differ too.
"""

import zlib
from dataclasses import dataclass

BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"
PINK, GREY, OLIVE = "#b8609a", "#777777", "#8c7a00"
COLOURS = (BLUE, RED, GREEN, PINK, OLIVE)
SHAPES = ("<", ">", "p", "h", "8", "d")
# Of several settings of a method; the first is the common case.
FILLS = ("full", "hollow", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class Mark:
    """A colour, `#rrggbb`, and a mark of matplotlib."""

    colour: str
    shape: str


MARKS = {
    "loreft": Mark(BLUE, "o"),
    "direft": Mark(BLUE, "s"),
    "red": Mark(BLUE, "^"),
    "reft+lora": Mark(PINK, "*"),
    "lora": Mark(RED, "D"),
    "dora": Mark(RED, "v"),
    "bottleneck": Mark(GREEN, "s"),
    "ia3": Mark(GREEN, "^"),
    "ln-tuning": Mark(GREEN, "o"),
    "bitfit": Mark(OLIVE, "D"),
    "prefix-tuning": Mark(PINK, "P"),
    "prompt-tuning": Mark(PINK, "X"),
    "full": Mark(GREY, "s"),
    "probe": Mark(GREY, "o"),
    "none": Mark(GREY, "x"),
}


def mark_of(method: str) -> Mark:
    """Return the mark of a method; one that is not known has its own too, by its name."""
    if method in MARKS:
        return MARKS[method]
    number = zlib.crc32(method.encode(errors="replace"))
    return Mark(COLOURS[number % len(COLOURS)], SHAPES[number // 8 % len(SHAPES)])
