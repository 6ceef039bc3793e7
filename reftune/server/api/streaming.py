"""Answers while they grow, as server-sent events; and the end of those whose client went away."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reftune.server.api.answers import Answers, Piece
from reftune.server.api.errors import error_body
from reftune.server.errors import ServerError

T = TypeVar("T")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DONE = b"data: [DONE]\n\n"
# Line ends for readers that split lines as Python's `str.splitlines` does.
LINES = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class Writer(Protocol):
    """Writes the chunks of one kind of answer."""

    def opening(self) -> Iterable[dict[str, Any]]:
        """Give what comes before all text."""
        ...

    def chunks(self, place: int, piece: Piece) -> Iterable[dict[str, Any]]:
        """Give what tells one piece."""
        ...

    def closing(self, tokens: int) -> Iterable[dict[str, Any]]:
        """Give what comes after all text; ``tokens`` is the length of the answers."""
        ...


class ClientLeft(ServerError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__("client_left", "the client went away", 499)


def event(data: dict[str, Any]) -> bytes:
    """Write one server-sent event."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text.translate(LINES)}\n\n".encode()


async def or_client_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work, unless the client goes away before it is done.

    Raises:
        ClientLeft: it did; the work was cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """A stream of answers; when it ends, by itself or because its client left, so do they."""

    def __init__(
        self, answers: Answers, first: tuple[int, Piece] | None, writer: Writer, facts: dict
    ) -> None:
        super().__init__(
            _events(answers, first, writer), media_type="text/event-stream", headers=HEADERS
        )
        self._answers = answers
        self._facts = facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.close()
            self._facts["answer_tokens"] = self._answers.tokens


async def _events(
    answers: Answers, first: tuple[int, Piece] | None, writer: Writer
) -> AsyncIterator[bytes]:
    for chunk in writer.opening():
        yield event(chunk)
    now = first
    try:
        while now is not None:
            for chunk in writer.chunks(*now):
                yield event(chunk)
            now = await answers.next()
    except ServerError as error:
        # The status was sent long ago; clients know an error by its name.
        yield event(error_body(error))
        return
    for chunk in writer.closing(answers.tokens):
        yield event(chunk)
    yield DONE
