"""What is asked of the engine, and what it says while it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sampling:
    """How the tokens of one answer are chosen.

    Attributes:
        max_tokens: the answer's length at most, 1 or more.
        temperature: 0 takes the likeliest token; above, tokens are drawn.
        top_p: only the likeliest tokens that together have this probability are drawn.
        seed: of the draws; the same request with the same seed has the same answer. At random if
            `None`.
        top_logprobs: how many of the likeliest tokens are told with their log probabilities,
            besides that of the chosen one; `None` for no log probabilities at all.

    Raises:
        ValueError: a value has no meaning.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        checks = (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature <= 100, "a number from 0 to 100"),
            ("top_p", 0 < self.top_p <= 1, "above 0, and 1 at most"),
            ("top_logprobs", self.top_logprobs is None or self.top_logprobs >= 0, "0 or more"),
        )
        for name, valid, expected in checks:
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")


@dataclass(frozen=True)
class Token:
    """A token of the answer.

    Attributes:
        id: of the token.
        logprob: its log probability under the model, before temperature and `top_p`, in nats.
        top: the likeliest tokens with theirs, best first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finished:
    """The answer is whole: it ended by itself (`"stop"`), is too long, or was not wanted any more.

    The token that ends it is not among its tokens.
    """

    reason: Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Failed:
    """The answer cannot be given."""

    error: str


Event = Token | Finished | Failed
Notify = Callable[[Event], None]
