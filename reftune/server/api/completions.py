"""`/v1/completions`: text as it is, without a chat around it."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from reftune.server.api.asking import Question, answer, make_question
from reftune.server.api.authentication import Chatting
from reftune.server.api.completion_form import CompletionForm
from reftune.server.api.context import Context, Parts
from reftune.server.api.parameters import AnswerParameters
from reftune.server.api.prompts import encode_prompts

router = APIRouter()

LENGTH = 16  # OpenAI's default, in tokens


class CompletionParameters(AnswerParameters):
    """The body of a request."""

    prompt: Any
    logprobs: int | None = Field(None, ge=0, le=5)


@router.post("/v1/completions")
async def create_completion(
    body: CompletionParameters, request: Request, context: Parts, who: Chatting
) -> Response:
    """Go on with one or several texts; the answers to a prompt stand together."""
    question = await run_in_threadpool(_question, context, who.tenant, body)
    form = CompletionForm(
        model=body.model,
        fingerprint=context.fingerprint,
        token_bytes=context.token_bytes,
        top_logprobs=body.logprobs,
        prompt_tokens=question.prompt_tokens,
        usage_at_end=body.has_usage_at_end(),
    )
    return await answer(request, context, question, form, bool(body.stream))


def _question(context: Context, tenant: str, body: CompletionParameters) -> Question:
    body.refuse_unsupported()
    adapter = context.registry.folder_of(tenant, body.model)
    prompts = encode_prompts(body.prompt, context.tokenizer)
    length = LENGTH if body.max_tokens is None else body.max_tokens
    return make_question(context, body, adapter, prompts, length, body.logprobs)
