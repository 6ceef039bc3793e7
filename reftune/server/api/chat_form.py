"""The objects of a chat's answer: `chat.completion` and `chat.completion.chunk`."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reftune.server.api.answers import Piece
from reftune.server.api.asking import Whole, finite, usage
from reftune.server.database.identifiers import new_id
from reftune.server.token_bytes import TokenBytes, as_text
from reftune.serving.requests import Token


@dataclass(frozen=True)
class ChatForm:
    """Writes the answers to one request.

    Attributes:
        token_bytes: where log probabilities are wanted.
        count: of the answers.
        prompt_tokens: for the usage.
        usage_at_end: whether a stream ends with it.
    """

    model: str
    fingerprint: str
    token_bytes: TokenBytes | None
    count: int
    prompt_tokens: int
    usage_at_end: bool
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Whole], tokens: int) -> dict[str, Any]:
        """Write answers that are over."""
        choices = [
            {
                "index": place,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": self._logprobs(answer.tokens),
                "finish_reason": answer.reason,
            }
            for place, answer in enumerate(answers)
        ]
        head = self._head("chat.completion")
        return {**head, "choices": choices, "usage": usage(self.prompt_tokens, tokens)}

    def opening(self) -> Iterator[dict[str, Any]]:
        """Say whose the answers are."""
        for place in range(self.count):
            yield self._chunk(place, {"role": "assistant", "content": "", "refusal": None})

    def chunks(self, place: int, piece: Piece) -> Iterator[dict[str, Any]]:
        """Write what is new in an answer, and that it ends."""
        if piece.text or piece.tokens:
            logprobs = self._logprobs(piece.tokens)
            yield self._chunk(place, {"content": piece.text}, logprobs)
        if piece.reason is not None:
            yield self._chunk(place, {}, reason=piece.reason)

    def closing(self, tokens: int) -> Iterator[dict[str, Any]]:
        """Write the usage."""
        if self.usage_at_end:
            head = self._head("chat.completion.chunk")
            yield {**head, "choices": [], "usage": usage(self.prompt_tokens, tokens)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _chunk(
        self, place: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self.usage_at_end else chunk

    def _logprobs(self, tokens: Iterable[tuple[int, Token]]) -> dict[str, Any] | None:
        if self.token_bytes is None:
            return None
        return {"content": [self._token(token) for _, token in tokens], "refusal": None}

    def _token(self, token: Token) -> dict[str, Any]:
        top = [self._entry(id, logprob) for id, logprob in token.top]
        return {**self._entry(token.id, token.logprob), "top_logprobs": top}

    def _entry(self, id: int, logprob: float | None) -> dict[str, Any]:
        assert self.token_bytes is not None
        raw = self.token_bytes.of(id)
        return {"token": as_text(raw), "bytes": list(raw), "logprob": finite(logprob)}
