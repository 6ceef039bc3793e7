"""What counts as emoji alone."""

import time

import pytest

from reftune.emoji_text import is_emoji_only

EMOJI = ["🔥", "☀️", "☀", "❤", "1️⃣", "#️⃣", "👨‍👩‍👧‍👦", "🤷🏽‍♂️", "👍🏿", "🇦🇹", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "™️", "🏳️‍🌈", "❤️‍🔥"]
OTHER = [
    "",
    " ",
    "1",
    "12",
    "#",
    "a",
    "🔥a",
    "🔥.",
    "™",
    "©",
    "→",
    "🇦",
    "\u200d",
    "\ufe0f",
    "🔥\u200d",
    "é",
]


@pytest.mark.parametrize("text", [*EMOJI, "".join(EMOJI), " ".join(EMOJI), "🔥\n🔥 "])
def test_emoji_count(text: str) -> None:
    assert is_emoji_only(text)


@pytest.mark.parametrize("text", [*OTHER, *(f"🔥{text}" for text in OTHER[2:] if text != "\ufe0f")])
def test_everything_else_does_not(text: str) -> None:
    assert not is_emoji_only(text)


def test_every_emoji_of_unicode_counts() -> None:
    emoji = pytest.importorskip("emoji", reason="the emoji package knows them all")
    qualified = emoji.STATUS["unqualified"]
    wanted = [text for text, about in emoji.EMOJI_DATA.items() if about["status"] < qualified]
    assert len(wanted) > 3000
    assert [text for text in wanted if not is_emoji_only(text)] == []


def test_long_texts_are_read_once() -> None:
    text = "👨‍👩‍👧‍👦👍🏿❤️" * 2000 + "a"
    start = time.process_time()
    assert not is_emoji_only(text)
    assert time.process_time() - start < 20  # read again and again, it would take for ever
