"""The engine: requests in, tokens out, every request with its own adapter."""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.continuous_batching.requests import GenerationOutput

from reftune.serving.adapters import AdapterCache, ServedAdapter
from reftune.serving.admission import Admission
from reftune.serving.answer import Answer
from reftune.serving.batching import make_manager, shared_copy
from reftune.serving.control import Router, StepControl
from reftune.serving.editing import Editing
from reftune.serving.errors import EngineError, EngineStopped, PromptTooLong
from reftune.serving.probe import probe
from reftune.serving.requests import Event, Notify, Sampling, Token
from reftune.serving.settings import EngineSettings, EngineStats

PROBE_SECONDS = 300  # a large model may be slow, but not this slow


class Engine:
    """Serves one base model with adapters from folders.

    Transformers' continuous batching runs the model; requests for different adapters share every
    batch, and every answer is the one that `generate` gives for that request alone. Keys and values
    are never shared between requests: the engine tells blocks by their tokens alone, which is not
    enough where states are edited.

    The model is the engine's from now on: it is hooked, and its attention may be switched.

    Args:
        model: a causal language model, without adapters.
        tokenizer: of the same model.
        settings: how much it holds.
        name: of the model; its own if empty.

    Raises:
        EngineError: the model is no causal language model that the engine can run.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: EngineSettings | None = None,
        name: str = "",
    ) -> None:
        self.settings = settings or EngineSettings()
        self.tokenizer = tokenizer
        self.model_name = name or Path(model.name_or_path or type(model).__name__).name
        self._bare = shared_copy(model)
        self._model = model.eval()
        self.max_length = self._longest()
        self.stats = EngineStats(self.settings.slots)
        self._cache = AdapterCache(self._bare, self.settings.adapter_bytes)
        self._editing = Editing(self._model, self.settings.slots + 1)
        self._admission = Admission(self._editing, self.stats)
        self._ends = frozenset(_listed(model.generation_config.eos_token_id))
        self._answers: dict[str, Answer] = {}
        self._gone: dict[str, Answer] = {}  # cancelled, but the engine may not know yet
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._taking = False
        control = StepControl(self._answer_of, self._editing, model.device, self._forget_gone)
        self._manager = make_manager(
            self._model, self.settings, self._ends, control, Router(self._deliver)
        )

    def start(self) -> None:
        """Begin to take requests, once a probe has shown that edits act where they should.

        Raises:
            EngineError: they do not, with this model or this version of transformers.
        """
        self._manager.start()
        self._taking = True
        try:
            length = min(self.settings.batch_tokens + 5, self.max_length // 2)
            probe(self.base_for_training(), length, self._likeliest)
        except BaseException:
            self.stop(drain=False)
            raise

    def stop(self, drain: bool = True) -> None:
        """Take no more requests, and end.

        Args:
            drain: whether the answers that are on their way are given first; they fail otherwise.
        """
        with self._idle:
            self._taking = False
            if drain:
                self._idle.wait_for(lambda: not self._answers or not self._manager.is_running())
            for answer in list(self._answers.values()):
                self._over(answer, answer.fail("the engine was stopped"))
        if self._manager.is_running():
            self._manager.stop(block=True, hard_stop=not drain)

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
            notify: gets its events, in the engine's thread; it must be quick, and not
                call the engine.
            adapter: the folder of an adapter; the base model answers if `None`.

        Returns:
            The request's id, for `cancel`.

        Raises:
            PromptTooLong: prompt and answer have more than `max_length` tokens.
            AdapterError: the folder holds no adapter that can be served.
            EngineStopped: no requests are taken.
        """
        served = None if adapter is None else self._cache.get(adapter)
        return self.submit_lowered(prompt, sampling, notify, served)

    def submit_lowered(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        notify: Notify,
        adapter: ServedAdapter | None,
        ends: frozenset[int] | None = None,
    ) -> str:
        """Begin an answer with an adapter that was read before; otherwise like `submit`.

        Args:
            ends: tokens that end it, the model's own by default.
        """
        length = len(prompt) + sampling.max_tokens
        if not prompt or length > self.max_length:
            raise PromptTooLong(
                f"{len(prompt)} prompt tokens and {sampling.max_tokens} new ones: expected a "
                f"prompt, and {self.max_length} at most together"
            )
        if adapter is not None and not self._editing.hooked(adapter):
            with self.between_batches():
                self._editing.hook(adapter)
        name = f"answer-{next(self._numbers)}"
        ends = self._ends if ends is None else ends
        answer = Answer(name, list(prompt), sampling, notify, ends, adapter)
        with self._lock:
            if not self.alive:
                raise EngineStopped("the engine takes no requests: it was stopped or has failed")
            self._answers[name] = answer
            self.stats.prompt_tokens += len(prompt)
            self._admission.wait(answer)
            self._admit()
        return name

    def cancel(self, request: str) -> None:
        """End an answer that is not wanted any more; nothing happens if it is over."""
        with self._lock:
            answer = self._answers.get(request)
            if answer is None:
                return
            if not self._admission.withdraw(answer):
                self._gone[request] = answer
                self._manager.cancel_request(request)
            self._over(answer, answer.cancel())

    @property
    def alive(self) -> bool:
        """Whether requests are taken: it was started, not stopped, and has not failed."""
        return self._taking and self._manager.is_running()

    @property
    def waiting(self) -> int:
        """Requests that are not begun: they wait for a slot, or for room in a step."""
        processor = self._manager.batch_processor
        begun = 0 if processor is None else len(processor.scheduler.active_requests)
        # Some of those begun may be over already, and the engine does not know yet.
        return max(0, len(self._answers) - begun)

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        return max(0, len(self._answers) - self.waiting)

    def check(self, adapter: Path) -> None:
        """Raise AdapterError if an adapter could not be served."""
        self._cache.get(adapter)

    def forget(self, adapter: Path) -> None:
        """Keep nothing of a folder that is deleted; running answers go on with what they have."""
        self._cache.forget(adapter)

    def base_for_training(self) -> PreTrainedModel:
        """Return the base model in modules of its own, without the engine's hooks.

        Its weights are the engine's, so that it costs no memory, and must not be changed. Run it
        within `between_batches`.
        """
        return shared_copy(self._bare)

    @contextmanager
    def between_batches(self) -> Iterator[None]:
        """Have the processor alone: no batch is run within."""
        if not self._manager.is_running():
            yield
            return
        with self._manager.pause():
            yield

    def _likeliest(
        self, asked: list[tuple[list[int], ServedAdapter | None]], count: int
    ) -> list[list[Token]]:
        """Return answers of some tokens with their log probabilities, all begun together."""
        sampling = Sampling(max_tokens=count, temperature=0, top_logprobs=0)
        inboxes: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in asked]
        for (prompt, adapter), inbox in zip(asked, inboxes, strict=True):
            self.submit_lowered(prompt, sampling, inbox.put, adapter, ends=frozenset())
        return [[self._probed(inbox) for _ in range(count)] for inbox in inboxes]

    @staticmethod
    def _probed(inbox: queue.SimpleQueue[Event]) -> Token:
        event = inbox.get(timeout=PROBE_SECONDS)
        if not isinstance(event, Token):
            raise EngineError(f"a probe of the engine ended with {event}: expected a token")
        return event

    def _longest(self) -> int:
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        # A request that could not be held alone would stop the engine.
        cache = self.settings.cache_tokens - self.settings.page_tokens
        return cache if limit is None else min(limit, cache)

    def _answer_of(self, request: str) -> Answer:
        answer = self._answers.get(request) or self._gone.get(request)
        if answer is None:
            raise EngineError(f"the engine runs request {request!r}, which nobody asked for")
        return answer

    def _forget_gone(self) -> None:
        """Forget cancelled requests that the engine no longer has."""
        processor = self._manager.batch_processor
        if self._gone and processor is not None:
            scheduler = processor.scheduler
            with self._lock:
                for name in list(self._gone):
                    if not {name} & (scheduler.active_requests.keys() | scheduler.waiting_requests):
                        del self._gone[name]

    def _admit(self) -> None:
        """Give the requests that have waited longest to the engine, as far as slots go."""
        while (answer := self._admission.next()) is not None:
            taken = self._manager.add_request(
                answer.prompt,
                request_id=answer.id,
                max_new_tokens=answer.sampling.max_tokens,
                streaming=True,
                eos_token_id=sorted(answer.ends) or -1,
            )
            if taken is None:
                self._over(answer, answer.fail("the engine takes no requests any more"))

    def _deliver(self, output: GenerationOutput) -> None:
        name = output.request_id
        answer = self._answers.get(name)
        if answer is None:  # it was cancelled
            return
        told = answer.told
        ended = answer.tell(output.generated_tokens, output.is_finished(), output.error)
        with self._lock:
            self.stats.generated_tokens += answer.told - told
            self._over(answer, ended)

    def _over(self, answer: Answer, ended: bool) -> None:
        """Forget an answer that has ended, and let another have its slot."""
        if not ended or self._answers.pop(answer.id, None) is None:
            return
        self._admission.leave(answer)
        self._admit()
        self._idle.notify_all()


def _listed(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
