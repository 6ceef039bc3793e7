"""What chats and completions do alike: hold a request against the limits, ask, and answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from reftune.server.api.answers import Answers, Asked, Piece, Reason
from reftune.server.api.context import Context
from reftune.server.api.parameters import AnswerParameters
from reftune.server.api.streaming import ClientLeft, EventStream, Writer, or_client_left
from reftune.server.errors import BadRequest
from reftune.serving.requests import Token


@dataclass(frozen=True)
class Question:
    """A request that may be asked: its prompts, and the answers wanted to each of them."""

    prompts: list[list[int]]
    asked: list[Asked]
    stops: list[str]

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts; a prompt that gets several answers counts once."""
        return sum(map(len, self.prompts))


@dataclass
class Whole:
    """An answer that is over."""

    text: str = ""
    tokens: list[tuple[int, Token]] = field(default_factory=list)
    reason: Reason | None = None

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.reason = piece.reason


class Form(Writer, Protocol):
    """How one kind of answer is written, at once or in chunks."""

    def whole(self, answers: Sequence[Whole], tokens: int) -> dict[str, Any]:
        """Write answers that are over; ``tokens`` is their length."""
        ...


def usage(prompt: int, answer: int) -> dict[str, int]:
    """Write how many tokens were read and written."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def finite(logprob: float | None) -> float:
    """Write the log probability of what is impossible as OpenAI does: infinity is not JSON."""
    return -9999.0 if logprob is None or logprob < -9999 else logprob


def make_question(
    context: Context,
    body: AnswerParameters,
    adapter: Path | None,
    prompts: list[list[int]],
    max_tokens: int | None,
    top_logprobs: int | None,
) -> Question:
    """Hold a request against the limits.

    Args:
        context: has the limits.
        body: of the request.
        adapter: folder of the one that is asked for.
        prompts: ids of each.
        max_tokens: of one answer; `None` for as many as there is room for.
        top_logprobs: how many a token has beside its own; `None` for none at all.

    Raises:
        BadRequest: it asks for too much.
    """
    most = context.settings.max_choices
    if len(prompts) * body.choices() > most:
        raise BadRequest(
            f"{len(prompts)} prompts with n={body.choices()}: expected {most} answers at most", "n"
        )
    asked = []
    for prompt in prompts:
        length = _room(context, len(prompt), max_tokens)
        asked += [Asked(prompt, one, adapter) for one in body.samplings(length, top_logprobs)]
    return Question(prompts, asked, body.stops())


def _room(context: Context, prompt: int, wanted: int | None) -> int:
    """Return the length of an answer at most, in tokens."""
    settings, total = context.settings, context.engine.max_length
    most_prompt = min(settings.max_prompt_tokens or total, total - 1)
    if prompt > most_prompt:
        raise _too_long(f"the prompt has {prompt} tokens; expected {most_prompt} at most")
    left = total - prompt
    if wanted is None:
        return min(left, settings.max_tokens or left)
    if wanted > left:
        raise _too_long(
            f"this model's maximum context length is {total} tokens. However, you requested "
            f"{prompt + wanted} tokens ({prompt} in the prompt, {wanted} in the answer)"
        )
    if settings.max_tokens is not None and wanted > settings.max_tokens:
        raise BadRequest(
            f"max_tokens {wanted}: expected {settings.max_tokens} at most", "max_tokens"
        )
    return wanted


def _too_long(message: str) -> BadRequest:
    return BadRequest(message, None, "context_length_exceeded")


async def answer(
    request: Request, context: Context, question: Question, form: Form, stream: bool
) -> Response:
    """Ask, and answer at once or as a stream.

    Raises:
        ServerError: the request cannot be answered. A stream that has begun ends with the error.
    """
    facts = request.scope["facts"]
    facts["prompt_tokens"] = question.prompt_tokens
    context.metrics.prompt_tokens.inc(question.prompt_tokens)
    answers = Answers(context, question.asked, question.stops)
    handed_over = False
    try:
        await answers.begin(request.scope["began"])
        if stream:
            # Until there is something to say, an error can still have a status of its own.
            first = await or_client_left(request, answers.next())
            response = EventStream(answers, first, form, facts)
            handed_over = True
            return response
        wholes = await or_client_left(request, _gather(answers))
        return JSONResponse(form.whole(wholes, answers.tokens))
    except ClientLeft:
        return Response(status_code=499)
    finally:
        if not handed_over:
            answers.close()
            facts["answer_tokens"] = answers.tokens


async def _gather(answers: Answers) -> list[Whole]:
    wholes = [Whole() for _ in range(answers.count)]
    while (now := await answers.next()) is not None:
        place, piece = now
        wholes[place].add(piece)
    return wholes
