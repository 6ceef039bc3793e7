"""The object of a completion's answer, `text_completion`, at once and in chunks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reftune.server.api.answers import Piece
from reftune.server.api.asking import Whole, finite, usage
from reftune.server.database.identifiers import new_id
from reftune.server.token_bytes import TokenBytes, as_text
from reftune.serving.requests import Token


@dataclass(frozen=True)
class CompletionForm:
    """Writes the answers to one request.

    Attributes:
        top_logprobs: how many log probabilities a token has beside its own; `None` for none at all.
        prompt_tokens: for the usage.
        usage_at_end: whether a stream ends with it.
    """

    model: str
    fingerprint: str
    token_bytes: TokenBytes
    top_logprobs: int | None
    prompt_tokens: int
    usage_at_end: bool
    id: str = field(default_factory=lambda: new_id("cmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Whole], tokens: int) -> dict[str, Any]:
        """Write answers that are over."""
        choices = [
            self._choice(place, answer.text, answer.tokens, answer.reason)
            for place, answer in enumerate(answers)
        ]
        return {**self._head(), "choices": choices, "usage": usage(self.prompt_tokens, tokens)}

    def opening(self) -> Iterator[dict[str, Any]]:
        """Say nothing: a completion has no role."""
        return iter(())

    def chunks(self, place: int, piece: Piece) -> Iterator[dict[str, Any]]:
        """Write what is new in an answer, and that it ends."""
        if piece.text or piece.tokens or piece.reason:
            choice = self._choice(place, piece.text, piece.tokens, piece.reason)
            chunk = {**self._head(), "choices": [choice]}
            yield {**chunk, "usage": None} if self.usage_at_end else chunk

    def closing(self, tokens: int) -> Iterator[dict[str, Any]]:
        """Write the usage."""
        if self.usage_at_end:
            yield {**self._head(), "choices": [], "usage": usage(self.prompt_tokens, tokens)}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _choice(
        self, place: int, text: str, tokens: list[tuple[int, Token]], reason: str | None
    ) -> dict[str, Any]:
        return {
            "index": place,
            "text": text,
            "logprobs": self._logprobs(tokens),
            "finish_reason": reason,
        }

    def _logprobs(self, tokens: list[tuple[int, Token]]) -> dict[str, Any] | None:
        """Write log probabilities; offsets are places in the answer's text."""
        if self.top_logprobs is None:
            return None
        return {
            "tokens": [self._name(token.id) for _, token in tokens],
            "token_logprobs": [finite(token.logprob) for _, token in tokens],
            "top_logprobs": [self._top(token) for _, token in tokens]
            if self.top_logprobs
            else None,
            "text_offset": [start for start, _ in tokens],
        }

    def _top(self, token: Token) -> dict[str, float]:
        best = {self._name(id): finite(logprob) for id, logprob in token.top}
        return {**best, self._name(token.id): finite(token.logprob)}

    def _name(self, id: int) -> str:
        return as_text(self.token_bytes.of(id))
