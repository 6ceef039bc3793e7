"""One answer on its way: what was asked, how far it is, and how its next token is drawn."""

import logging
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.adapters import ServedAdapter
from reftune.serving.requests import Event, Failed, Finished, Notify, Sampling, Token

LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Answer:
    """An answer, from its request to its end.

    Attributes:
        id: of the request.
        prompt: its tokens.
        sampling: how tokens are chosen.
        notify: gets every event.
        ends: tokens that end it.
        adapter: that edits it, if any.
        slot: of the adapter; 0 without one, or while it waits for one.
        logprobs: of the tokens that were chosen, where they are wanted.
        told: how many of its tokens were handed over.
    """

    id: str
    prompt: list[int]
    sampling: Sampling
    notify: Notify
    ends: frozenset[int]
    adapter: ServedAdapter | None
    slot: int = 0
    logprobs: list[tuple[float, tuple[tuple[int, float], ...]]] = field(default_factory=list)

    told: int = 0

    def __post_init__(self) -> None:
        self._over = False
        self._turn = threading.Lock()  # of the engine's thread and of the one that cancels
        self.draws: torch.Generator | None = None
        if self.sampling.temperature > 0:
            self.draws = torch.Generator()
            seed = self.sampling.seed
            _ = self.draws.seed() if seed is None else self.draws.manual_seed(seed)
        where, length = self.where, len(self.prompt)
        # Of the prompt, so many first and last tokens are edited.
        self.first = self.last = 0
        if where is not None:
            self.first, self.last = _ends(where.positions, length)
            if where.positions.everywhere:
                self.first = length

    @property
    def where(self) -> Where | None:
        """Which tokens its adapter edits."""
        return None if self.adapter is None else self.adapter.where

    def edited(self, begin: int, end: int) -> tuple[list[int], list[int]]:
        """Return which of the tokens from `begin` to `end`, counted from the prompt's first, are
        edited: by the edit of the first positions, and by that of the last ones.

        Tied positions have one edit, the former.
        """
        where, length = self.where, len(self.prompt)
        if where is None or (begin >= length and where.decode == "none"):
            return [], []
        reach = {"none": length, "all": end}.get(str(where.decode))
        reach = length + int(where.decode) if reach is None else reach
        first = range(begin, min(end, self.first))
        last = range(max(begin, length - self.last, self.first), min(end, reach))
        return ([*first, *last], []) if where.tied else ([*first], [*last])

    def tell(self, tokens: list[int], finished: bool, error: str | None) -> bool:
        """Hand over what is new.

        Args:
            tokens: all tokens so far, the one that ends it too.
            finished: whether there will be no more.
            error: why not, if it failed.

        Returns:
            Whether this was the end; it is once.
        """
        ended = bool(tokens) and tokens[-1] in self.ends
        whole = tokens[:-1] if ended else tokens
        with self._turn:
            if self._over:
                return False
            for place in range(self.told, len(whole)):
                self._say(self._token(place, whole[place]))
            self.told = len(whole)
            if error is not None:
                return self._end(Failed(error))
            if finished:
                return self._end(Finished("stop" if ended else "length"))
            return False

    def cancel(self) -> bool:
        """Say that it is not wanted any more; return whether it was not over."""
        with self._turn:
            return False if self._over else self._end(Finished("cancelled"))

    def fail(self, error: str) -> bool:
        """Say that it cannot be given; return whether it was not over."""
        with self._turn:
            return False if self._over else self._end(Failed(error))

    def _end(self, event: Event) -> bool:
        self._over = True
        self._say(event)
        return True

    def _say(self, event: Event) -> None:
        try:
            self.notify(event)
        except Exception:  # one listener's fault must not end the answers of all others
            LOG.exception("a listener of %s failed", self.id)

    def _token(self, place: int, token: int) -> Token:
        if self.sampling.top_logprobs is None:
            return Token(token)
        return Token(token, *self.logprobs[place])


@lru_cache(maxsize=1 << 14)
def _ends(positions: Positions, length: int) -> tuple[int, int]:
    """Return how many first and last tokens of a prompt are edited."""
    first, last = positions.counts(torch.tensor(length))
    return int(first), int(last)


def chosen(logits: torch.Tensor, answers: list[Answer]) -> torch.Tensor:
    """Return the next token of each answer, `(answers,)` int64, and note log probabilities.

    Args:
        logits: `(answers, vocabulary)`, float32.
    """
    tokens = logits.argmax(dim=-1)
    drawn = [row for row, answer in enumerate(answers) if answer.draws is not None]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        tokens[rows] = _drawn(logits[rows], [answers[row] for row in drawn])
    told = [row for row, a in enumerate(answers) if a.sampling.top_logprobs is not None]
    if told:
        _note(logits, tokens, [(row, answers[row]) for row in told])
    return tokens


def _drawn(logits: torch.Tensor, answers: list[Answer]) -> torch.Tensor:
    """Draw a token per row, with the row's own temperature, `top_p` and generator."""

    def column(values: list[Any]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    # A likelier token first, so that the nucleus is a beginning of the row.
    scaled = logits / column([answer.sampling.temperature for answer in answers])
    ordered, order = scaled.softmax(dim=-1).sort(dim=-1, descending=True)
    reach = ordered.cumsum(dim=-1)
    kept = reach - ordered < column([answer.sampling.top_p for answer in answers])
    reach = torch.where(kept, reach, reach.new_tensor(float("inf")))
    whole = torch.where(kept, reach, reach.new_tensor(0.0)).amax(dim=-1, keepdim=True)
    at = column([torch.rand((), generator=answer.draws).item() for answer in answers]) * whole
    place = torch.searchsorted(reach, at, right=True)
    place = torch.minimum(place, kept.sum(dim=-1, keepdim=True) - 1)  # of a rounded last draw
    return order.gather(1, place)[:, 0]


def _note(logits: torch.Tensor, tokens: torch.Tensor, told: list[tuple[int, Answer]]) -> None:
    rows = torch.tensor([row for row, _ in told], device=logits.device)
    logprobs = logits[rows].log_softmax(dim=-1)
    own = logprobs.gather(1, tokens[rows, None])[:, 0].tolist()
    most = max(answer.sampling.top_logprobs or 0 for _, answer in told)
    best, ids = logprobs.topk(min(most, logprobs.shape[1]), dim=-1)
    for (_, answer), logprob, values, names in zip(
        told, own, best.tolist(), ids.tolist(), strict=True
    ):
        count = answer.sampling.top_logprobs or 0
        top = tuple(zip(names[:count], values[:count], strict=True))
        answer.logprobs.append((logprob, top))
