"""`/v1/chat/completions`."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from reftune.server.api.asking import Question, answer, make_question
from reftune.server.api.authentication import Chatting
from reftune.server.api.chat_form import ChatForm
from reftune.server.api.context import Context, Parts
from reftune.server.api.parameters import AnswerParameters
from reftune.server.api.prompts import encode_chat
from reftune.server.errors import BadRequest

router = APIRouter()


class ChatParameters(AnswerParameters):
    """The body of a request."""

    messages: Any
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    def length(self) -> int | None:
        """Return the answer's length at most; `None` if the request leaves it open."""
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise BadRequest(
                f"max_tokens {self.max_tokens} and max_completion_tokens "
                f"{self.max_completion_tokens}: expected one of them",
                "max_tokens",
            )
        return self.max_tokens or self.max_completion_tokens

    def top(self) -> int | None:
        """Return how many log probabilities a token has beside its own; `None` for none at all."""
        if self.top_logprobs and not self.logprobs:
            raise BadRequest("top_logprobs without logprobs: true", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


@router.post("/v1/chat/completions")
async def create_chat_completion(
    body: ChatParameters, request: Request, context: Parts, who: Chatting
) -> Response:
    """Answer a chat."""
    question = await run_in_threadpool(_question, context, who.tenant, body)
    form = ChatForm(
        model=body.model,
        fingerprint=context.fingerprint,
        token_bytes=context.token_bytes if body.logprobs else None,
        count=len(question.asked),
        prompt_tokens=question.prompt_tokens,
        usage_at_end=body.has_usage_at_end(),
    )
    return await answer(request, context, question, form, bool(body.stream))


def _question(context: Context, tenant: str, body: ChatParameters) -> Question:
    body.refuse_unsupported()
    adapter = context.registry.folder_of(tenant, body.model)
    prompt = encode_chat(body.messages, context.tokenizer)
    return make_question(context, body, adapter, [prompt], body.length(), body.top())
