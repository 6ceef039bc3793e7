"""vLLM behind `reftune serve`: the same calls as `reftune.serving.engine.Engine`, but for training.

vLLM's client lives in an event loop, the server's threads do not; so there is a thread with a loop
of its own, in which answers are followed.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from reftune.serving.errors import EngineStopped, PromptTooLong
from reftune.serving.requests import Event, Failed, Finished, Notify, Sampling, Token
from reftune.serving.settings import EngineStats

FIGURES_SECONDS = 2.0  # until it is given up to ask for them
ABORT_SECONDS = 10.0  # for answers that are cut off when the engine stops
STOPPED = Failed("the engine was stopped")


class Client(Protocol):
    """What the engine needs of vLLM, see `reftune.vllm.client`.

    Attributes:
        max_length: of a prompt with its answer, in tokens.
        max_requests: of a step.
        slots: adapters whose edits are on the device at once.
    """

    max_length: int
    max_requests: int
    slots: int

    @property
    def alive(self) -> bool:
        """Whether its processes run."""
        ...

    def check(self, adapter: Path) -> None:
        """Raise AdapterError if an adapter could not be served."""
        ...

    def forget(self, adapter: Path) -> None:
        """Keep nothing of a folder."""
        ...

    def answer(
        self, name: str, prompt: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> AsyncIterator[Event]:
        """Give an answer; leaving it early takes the request back."""
        ...

    async def figures(self) -> tuple[int, int]:
        """Return how many slots hold an adapter, and how often one had to make room."""
        ...

    def shutdown(self) -> None:
        """End its processes."""
        ...


@dataclass
class Asked:
    """An answer that is on its way: who gets its events, and what gives it, once it is begun."""

    notify: Notify
    task: asyncio.Task[Event] | None = None


class VllmEngine:
    """Serves one base model with adapters from folders, on vLLM.

    Args:
        client: of vLLM, which runs.
        tokenizer: of the model.
        name: of the model.
    """

    def __init__(self, client: Client, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer, self.model_name = tokenizer, name
        self.max_length = client.max_length
        self._client = client
        self._stats = EngineStats(client.slots)
        self._asked: dict[str, Asked] = {}
        self._numbers = itertools.count(1)
        self._idle = threading.Condition()
        self._taking = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)

    def start(self) -> None:
        """Begin to take requests; vLLM's workers have proved before that edits act."""
        self._thread.start()
        self._taking = True

    def stop(self, drain: bool = True) -> None:
        """Take no more requests, and end.

        Args:
            drain: whether the answers that are on their way are given first; they fail otherwise.
        """
        with self._idle:
            self._taking = False
            if drain:
                self._idle.wait_for(lambda: not self._asked or not self._client.alive)
            for name in self._asked:
                self.cancel(name)
            self._idle.wait_for(lambda: not self._asked, ABORT_SECONDS)
            left = list(self._asked)
        self._client.shutdown()
        if self._thread.is_alive():
            for name in left:  # vLLM does not take them back, but nobody must wait for them
                self._loop.call_soon_threadsafe(self._end, name, STOPPED)
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
            self._thread.join()
            self._loop.close()

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        notify: Notify,
        adapter: Path | None = None,
    ) -> str:
        """Begin an answer.

        Args:
            prompt: token ids.
            sampling: how its tokens are chosen.
            notify: gets its events, in the engine's thread; must be quick, and not call the engine.
            adapter: the folder of an adapter; the base model answers if `None`.

        Returns:
            The request's id, for `cancel`.

        Raises:
            PromptTooLong: prompt and answer have more than `max_length` tokens.
            AdapterError: the folder holds no adapter that can be served.
            EngineStopped: no requests are taken.
        """
        length = len(prompt) + sampling.max_tokens
        if not prompt or length > self.max_length:
            raise PromptTooLong(
                f"{len(prompt)} prompt tokens and {sampling.max_tokens} new ones: expected a "
                f"prompt, and {self.max_length} at most together"
            )
        if adapter is not None:
            self._client.check(adapter)
        name = f"answer-{next(self._numbers)}"
        with self._idle:
            if not self.alive:
                raise EngineStopped("the engine takes no requests: it was stopped or has failed")
            self._stats.prompt_tokens += len(prompt)
            self._asked[name] = Asked(notify)
            answer = self._client.answer(name, list(prompt), sampling, adapter)
            self._loop.call_soon_threadsafe(self._begin, name, answer)
        return name

    def cancel(self, request: str) -> None:
        """Have an answer end that is not wanted any more; nothing happens if it is over.

        Its last event comes when vLLM has taken it back.
        """
        with self._idle:  # a loop that has answers is not closed
            if request in self._asked:
                self._loop.call_soon_threadsafe(self._take_back, request)

    def forget(self, adapter: Path) -> None:
        """Keep nothing of a folder that is deleted; running answers go on with what they have."""
        self._client.forget(adapter)

    @property
    def alive(self) -> bool:
        """Whether requests are taken: it was started, not stopped, and has not failed."""
        return self._taking and self._client.alive

    @property
    def running(self) -> int:
        """Requests that have a place in vLLM's batches, as far as can be told from here."""
        return min(len(self._asked), self._client.max_requests)

    @property
    def waiting(self) -> int:
        """Requests beyond those."""
        return len(self._asked) - self.running

    @property
    def stats(self) -> EngineStats:
        """What happened since the start; figures of the slots are vLLM's, if it is there."""
        if self.alive:
            asked = asyncio.run_coroutine_threadsafe(self._client.figures(), self._loop)
            try:
                used, self._stats.evictions = asked.result(FIGURES_SECONDS)
            except Exception:  # vLLM is busy, or it has just died: the last figures must do
                asked.cancel()
            else:
                # Every adapter that was put into a slot is there still, or had to leave.
                self._stats.slots_used = used
                self._stats.slot_loads = used + self._stats.evictions
        return self._stats

    def _begin(self, name: str, answer: AsyncIterator[Event]) -> None:
        asked = self._asked[name]
        asked.task = self._loop.create_task(self._follow(answer, asked.notify))
        asked.task.add_done_callback(partial(self._done, name))

    async def _leave(self) -> None:
        # Tasks of vLLM's own are cancelled by now, but not over.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=ABORT_SECONDS)
        self._loop.stop()

    def _take_back(self, name: str) -> None:
        task = self._asked[name].task if name in self._asked else None
        # The second time would break off what vLLM does the first time.
        if task is not None and not task.cancelling():
            task.cancel()

    async def _follow(self, answer: AsyncIterator[Event], notify: Notify) -> Event:
        """Hand over the tokens of an answer, and return how it ends."""
        end: Event = Failed("vLLM has ended the answer without a word")
        async for event in answer:
            if isinstance(event, Token):
                self._stats.generated_tokens += 1
                notify(event)
            else:
                end = event
        return end

    def _done(self, name: str, task: asyncio.Task[Event]) -> None:
        if task.cancelled():
            self._end(name, Finished("cancelled") if self._taking else STOPPED)
        elif (error := task.exception()) is not None:
            self._end(name, Failed(f"{type(error).__name__}: {error}"))
        else:
            self._end(name, task.result())

    def _end(self, name: str, event: Event) -> None:
        """Tell how an answer ended, once."""
        with self._idle:
            asked = self._asked.pop(name, None)
            self._idle.notify_all()
        if asked is not None:
            asked.notify(event)
