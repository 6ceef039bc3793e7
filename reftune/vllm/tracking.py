"""The requests that a worker of vLLM has, followed from one step to the next.

vLLM's scheduler sends a request's data once, and later only how far it is. What is read of a
`SchedulerOutput` here is the same for both of vLLM's model runners.
"""

from collections.abc import Callable, Sequence
from typing import Any

from reftune.serving.adapters import ServedAdapter
from reftune.serving.answer import Answer
from reftune.vllm.rounds import Run, request
from reftune.vllm.ticket import Ticket


class TrackedRequests:
    """The requests of a worker.

    Args:
        adapter_of: gives the adapter of a ticket.
    """

    def __init__(self, adapter_of: Callable[[Ticket], ServedAdapter]) -> None:
        self._adapter_of = adapter_of
        self._answers: dict[str, Answer] = {}
        self._past: dict[str, int] = {}
        self._lengths: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def update(self, scheduled: Any) -> None:
        """Take in what the scheduler says of the step that comes.

        Args:
            scheduled: a `SchedulerOutput`.

        Raises:
            RuntimeError: a request was not admitted by the front end.
        """
        for name in scheduled.finished_req_ids:
            self._answers.pop(name, None)
        self._past = {}
        for new in scheduled.scheduled_new_reqs:
            self._answers[new.req_id] = self._answer(new)
            self._past[new.req_id] = new.num_computed_tokens
        cached = scheduled.scheduled_cached_reqs
        self._past |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        self._lengths = scheduled.num_scheduled_tokens

    def runs(self, order: Sequence[str]) -> list[Run]:
        """Return the requests of the step as they stand in the batch.

        Args:
            order: their names.

        Raises:
            RuntimeError: these are not the requests that were scheduled.
        """
        if set(order) != set(self._lengths) or not set(order) <= self._answers.keys():
            raise RuntimeError(
                f"the batch has requests {sorted(order)}: expected {sorted(self._lengths)}, which "
                "were scheduled"
            )
        return [(self._answers[name], self._past[name], self._lengths[name]) for name in order]

    def _answer(self, new: Any) -> Answer:
        prompt = new.prompt_token_ids or []
        params = new.sampling_params
        ticket = Ticket.read(None if params is None else params.extra_args, len(prompt))
        adapter = None if ticket is None else self._adapter_of(ticket)
        return request(new.req_id, prompt, adapter)
