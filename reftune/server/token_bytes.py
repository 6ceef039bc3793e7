"""The bytes that a single token stands for, which its text cannot always tell."""

import re

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's tokens of one byte


def _byte_letters() -> dict[str, int]:
    """Give the letters that byte-level tokenizers write bytes as, as GPT-2 chose them.

    Bytes that are printable in Latin-1 stand for themselves; the others, in their order, are the
    letters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(others)}


LETTERS = _byte_letters()


class TokenBytes:
    """Looks up the bytes of tokens of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._added = set(tokenizer.added_tokens_decoder)
        # Which kind it is shows in what its decoder makes of a space, as either kind writes it.
        fast = isinstance(tokenizer, PreTrainedTokenizerFast)
        decoder = tokenizer.backend_tokenizer.decoder if fast else None
        self._byte_level = decoder is not None and decoder.decode(["a", "Ġ"]) == "a "
        self._metaspace = decoder is not None and decoder.decode(["a", "▁b"]) == "a b"

    def of(self, token: int) -> bytes:
        """Return the bytes; those of its decoded text where the tokenizer is of no known kind."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        if token in self._added:
            return str(name).encode()
        if isinstance(name, str) and self._byte_level and all(letter in LETTERS for letter in name):
            return bytes(LETTERS[letter] for letter in name)
        if isinstance(name, str) and self._metaspace:
            byte = BYTE.fullmatch(name)
            return bytes.fromhex(byte[1]) if byte else name.replace("▁", " ").encode()
        return str(self._tokenizer.decode([token])).encode()


def as_text(token: bytes) -> str:
    """Write a token as OpenAI does: its text, or its bytes where they are no whole characters."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
