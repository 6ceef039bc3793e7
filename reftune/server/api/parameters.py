"""What a request for answers may say, and what it must not because nobody would obey it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from reftune.server.errors import BadRequest
from reftune.serving.requests import Sampling

# They change no answer.
HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",  # there are no tools
        "prediction",  # only makes an answer come sooner
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# They would change the answer, unless they have one of these values. `None` always is harmless.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}
MOST_STOPS = 4
SEEDS = 2**63


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


class AnswerParameters(BaseModel):
    """What chats and completions have in common."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-SEEDS, lt=SEEDS)
    stop: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def refuse_unsupported(self) -> None:
        """Refuse what is not supported and would change the answer, and what nobody knows.

        Raises:
            BadRequest: names the parameter.
        """
        for name, value in (self.model_extra or {}).items():
            if value is None or name in HARMLESS:
                continue
            if name not in UNSUPPORTED:
                raise BadRequest(f"{name:.60} is no parameter here", name, "unknown_parameter")
            if value not in UNSUPPORTED[name]:
                neutral = " or ".join(repr(v) for v in (*UNSUPPORTED[name], None))
                raise BadRequest(
                    f"{name} {value!r:.60} is not supported; expected {neutral}",
                    name,
                    "unsupported_parameter",
                )
        if self.stream_options is not None and not self.stream:
            raise BadRequest("stream_options without stream: true", "stream_options")

    def stops(self) -> list[str]:
        """Return the stop strings.

        Raises:
            BadRequest: they are neither a string nor a list of a few.
        """
        listed = self.stop if isinstance(self.stop, list) else [self.stop]
        listed = [] if self.stop is None else listed
        if len(listed) > MOST_STOPS or not all(isinstance(s, str) and s for s in listed):
            raise BadRequest(
                f"stop {self.stop!r:.60}: expected a string, or a list of up to {MOST_STOPS}, "
                "none of them empty",
                "stop",
            )
        return listed

    def choices(self) -> int:
        """Return how many answers a prompt gets."""
        return self.n or 1

    def has_usage_at_end(self) -> bool:
        """Tell whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def samplings(self, max_tokens: int, top_logprobs: int | None) -> list[Sampling]:
        """Say how each answer to a prompt is drawn: with seeds that follow each other."""
        return [
            Sampling(
                max_tokens=max_tokens,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                # Negative seeds count from the end, as those of torch do.
                seed=None if self.seed is None else (self.seed + place) % SEEDS,
                top_logprobs=top_logprobs,
            )
            for place in range(self.choices())
        ]
