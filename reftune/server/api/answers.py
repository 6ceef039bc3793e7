"""The answers to one request as they grow: from the engine's events to pieces of text."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import anyio.to_thread
from transformers import PreTrainedTokenizerBase

from reftune.server.api.context import Context
from reftune.server.errors import BadRequest, ServerError, Unavailable
from reftune.server.text import Detokenizer, StopStrings
from reftune.serving.errors import AdapterError, EngineStopped, PromptTooLong
from reftune.serving.requests import Event, Failed, Finished, Sampling, Token

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Asked:
    """One answer that is wanted."""

    prompt: list[int]
    sampling: Sampling
    adapter: Path | None


@dataclass
class Piece:
    """What one event added to an answer.

    Attributes:
        text: that can be handed out now.
        tokens: whose text has begun to be handed out, with the character of the answer that each
            begins at.
        reason: why the answer ends here, if it does.
    """

    text: str = ""
    tokens: list[tuple[int, Token]] = field(default_factory=list)
    reason: Reason | None = None


class Answer:
    """One answer: its text so far, cut at stop strings."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._words = Detokenizer(tokenizer)
        self._stops = StopStrings(stops)
        self._decoded = 0  # characters, those held back for a stop string too
        self._told = 0  # characters that were handed out
        self._pending: deque[tuple[int, Token]] = deque()
        self.tokens = 0
        self.is_over = False

    def take(self, event: Token | Finished) -> Piece:
        """Take what the engine says next, and return what it adds."""
        if isinstance(event, Finished):
            last = self._words.end()
            text = self._stops.take(last)
            text += "" if self._stops.found else self._stops.end()
            stopped = self._stops.found or event.reason == "stop"
            return self._piece(text, "stop" if stopped else "length")
        self.tokens += 1
        self._pending.append((self._decoded, event))
        new = self._words.take(event.id)
        self._decoded += len(new)
        text = self._stops.take(new) if new else ""
        return self._piece(text, "stop" if self._stops.found else None)

    def _piece(self, text: str, reason: Reason | None) -> Piece:
        self._told += len(text)
        self.is_over = reason is not None
        # Tokens that begin behind a stop string's first character are no part of the answer.
        whole = self.is_over and not self._stops.found
        tokens = []
        while self._pending and (whole or self._pending[0][0] < self._told):
            tokens.append(self._pending.popleft())
        return Piece(text, tokens, reason)


class Answers:
    """The answers to one request, all at once, in the order in which they grow.

    Whoever has begun them must `close` them: what is not over then is cancelled in the engine.
    """

    def __init__(self, context: Context, asked: Sequence[Asked], stops: Sequence[str]) -> None:
        self._context = context
        self._asked = asked
        self._answers = [Answer(context.tokenizer, stops) for _ in asked]
        self._names: dict[int, str] = {}
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._began = time.perf_counter()
        self._first = True

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._answers)

    @property
    def tokens(self) -> int:
        """How many tokens they have so far."""
        return sum(answer.tokens for answer in self._answers)

    async def begin(self, began: float) -> None:
        """Hand the request to the engine.

        Args:
            began: when the request came, in seconds of `time.perf_counter`.

        Raises:
            ServerError: the engine does not take it.
        """
        self._began = began
        waiting = self._context.engine.waiting
        if waiting >= self._context.settings.max_waiting:
            raise Unavailable(f"{waiting} requests are waiting already; try again", code="busy")
        try:
            await anyio.to_thread.run_sync(self._submit)
        except PromptTooLong as error:
            self.close()
            raise BadRequest(str(error), None, "context_length_exceeded") from error
        except AdapterError as error:
            self.close()
            raise BadRequest(self._without_path(str(error)), "model", "adapter_error") from error
        except EngineStopped as error:
            self.close()
            raise Unavailable("the model takes no requests now", code="stopping") from error
        except BaseException:
            self.close()
            raise

    def _without_path(self, message: str) -> str:
        """Leave out where the adapter lies, which is no client's business."""
        folder = self._asked[0].adapter
        return message if folder is None else message.replace(str(folder), folder.name)

    def _submit(self) -> None:
        for place, one in enumerate(self._asked):
            notify = partial(self._notify, place)
            self._names[place] = self._context.engine.submit(
                one.prompt, one.sampling, notify, one.adapter
            )

    def _notify(self, place: int, event: Event) -> None:
        """Take an event in the engine's thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._events.put_nowait, (place, event))

    async def next(self) -> tuple[int, Piece] | None:
        """Wait for the next piece; return the answer's place and it, or `None` after the last.

        Raises:
            ServerError: an answer cannot be given.
        """
        while not all(answer.is_over for answer in self._answers):
            place, event = await self._events.get()
            answer = self._answers[place]
            if answer.is_over:
                continue
            if isinstance(event, Failed) or (
                isinstance(event, Finished) and event.reason == "cancelled"
            ):
                raise self._failure()
            if isinstance(event, Token):
                self._count()
            piece = answer.take(event)
            if answer.is_over and isinstance(event, Token):  # a stop string, unknown to the engine
                self._context.engine.cancel(self._names[place])
            return place, piece
        return None

    def _count(self) -> None:
        self._context.metrics.answer_tokens.inc()
        if self._first:
            self._first = False
            self._context.metrics.first_token.observe(time.perf_counter() - self._began)

    def _failure(self) -> ServerError:
        if self._context.lifecycle.draining:
            return Unavailable("the server is stopping", code="stopping")
        return ServerError("engine_error", "the model could not finish this answer", 500)

    def close(self) -> None:
        """Cancel what is not over."""
        for place, answer in enumerate(self._answers):
            if not answer.is_over and place in self._names:
                answer.is_over = True
                self._context.engine.cancel(self._names[place])
