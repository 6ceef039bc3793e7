"""Text of tokens, piece by piece, is the text of all of them; and it ends at stop strings."""

import random

import pytest
from transformers import AutoTokenizer

from reftune.assets import TINY_CHAT
from reftune.server.text import Detokenizer, StopStrings
from reftune.server.token_bytes import TokenBytes, as_text
from tests.tiny_text import byte_level, metaspace

TOKENIZERS = {
    "byte level": byte_level,
    "metaspace": metaspace,
    "tiny-chat": lambda: AutoTokenizer.from_pretrained(TINY_CHAT),
}
TEXTS = [
    "What is the capital of France?",
    "🐳🌊 whales, and 👩‍👩‍👧 too",
    "naïve  café\n\n日本語 — ½",
    "a 🇫🇷b🏳️‍🌈",
]


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request):
    return TOKENIZERS[request.param]()


def pieces_of(tokenizer, ids):
    words = Detokenizer(tokenizer)
    return [words.take(token) for token in ids], words.end()


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_together_the_text(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces, rest = pieces_of(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert rest == ""
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("seed", range(20))
def test_any_tokens_give_what_they_decode_to(seed):
    tokenizer = TOKENIZERS["tiny-chat"]()
    draw = random.Random(seed)
    ids = [draw.randrange(280 if seed % 2 else len(tokenizer)) for _ in range(50)]
    pieces, rest = pieces_of(tokenizer, ids)
    assert "".join(pieces) + rest == tokenizer.decode(ids, skip_special_tokens=True)


def test_half_a_character_at_the_end_is_handed_out_at_last():
    tokenizer = byte_level()
    ids = tokenizer("a🐳", add_special_tokens=False)["input_ids"][:-1]
    pieces, rest = pieces_of(tokenizer, ids)
    assert "".join(pieces) == "a"
    assert rest == "\ufffd"


def test_garbage_is_not_held_back_for_ever():
    tokenizer = byte_level()
    half = tokenizer("🐳", add_special_tokens=False)["input_ids"][0]
    pieces, rest = pieces_of(tokenizer, [half] * 1000)
    assert len("".join(pieces)) > 900
    assert len("".join(pieces) + rest) == 1000


def cut(text, stops):
    """Read character by character until a stop string is whole."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@pytest.mark.parametrize("seed", range(300))
def test_stop_strings_cut_in_whatever_pieces_the_text_comes(seed):
    draw = random.Random(seed)
    text = "".join(draw.choices("abc", k=draw.randrange(30)))
    stops = ["".join(draw.choices("abc", k=draw.randrange(1, 5))) for _ in range(draw.randrange(4))]
    expected, found = cut(text, stops)
    cutter, out, left = StopStrings(stops), "", text
    while left and not cutter.found:
        size = draw.randrange(1, 5)
        out += cutter.take(left[:size])
        left = left[size:]
        assert expected.startswith(out)
    if not cutter.found:
        out += cutter.end()
    assert (out, cutter.found) == (expected, found)


def test_only_what_may_become_a_stop_string_is_held_back():
    cutter = StopStrings(["STOP", "\n\n"])
    assert cutter.take("so STand") == "so STand"
    assert cutter.take(" ST") == " "
    assert cutter.take("AR\n") == "STAR"
    assert cutter.end() == "\n"


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_the_tokens_are_those_of_the_text(tokenizer, text):
    bytes_of = TokenBytes(tokenizer).of
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = b"".join(bytes_of(token) for token in ids).decode()
    assert whole.lstrip(" ") == tokenizer.decode(ids).lstrip(" ")


def test_a_token_of_half_a_character_is_written_as_its_bytes():
    assert as_text("é".encode()) == "é"
    assert as_text(b"\xf0\x9f") == "bytes:\\xf0\\x9f"
