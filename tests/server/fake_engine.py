"""An engine that answers what it is told to and notes what it is asked, and a server on it."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import openai
from fastapi import FastAPI

from reftune.server.api.app import create_app
from reftune.server.api.lifecycle import Lifecycle
from reftune.server.database.store import Store
from reftune.server.hub_adapters import HubAdapters
from reftune.server.registry import Registry
from reftune.server.running import listening_socket, make_server
from reftune.server.settings import Settings
from reftune.server.state import database_url
from reftune.serving.engine import EngineStats
from reftune.serving.errors import AdapterError, EngineStopped, PromptTooLong
from reftune.serving.requests import Event, Failed, Finished, Sampling, Token
from tests.server.waiting import until


@dataclass
class Request:
    """What was asked, and whether it was taken back."""

    prompt: list[int]
    sampling: Sampling
    adapter: Path | None
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass
class FakeEngine:
    """Answers in threads of its own; the answer depends on the request alone.

    Attributes:
        answer: gives the tokens to a prompt and its sampling.
        gate: an answer waits for it before each token but the first; open by default.
        fails_after: so many tokens, if it is to fail.
        broken: folders of adapters that cannot be served.
        raises: an error that nobody expects.
    """

    tokenizer: Any
    answer: Callable[[list[int], Sampling], list[int]]
    model_name: str = "tiny"
    max_length: int = 256
    fails_after: int | None = None
    broken: set[str] = field(default_factory=set)
    waiting: int = 0
    raises: Exception | None = None
    stopped: bool = False
    alive: bool = True

    def __post_init__(self) -> None:
        self.stats = EngineStats(slots=4, slots_used=2, slot_loads=7, evictions=3)
        self.requests: dict[str, Request] = {}
        self.forgotten: list[Path] = []
        self.gate = threading.Event()
        self.gate.set()
        self._numbers = itertools.count()

    @property
    def running(self) -> int:
        return 0

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        notify: Callable[[Event], None],
        adapter: Path | None = None,
    ) -> str:
        if self.raises is not None:
            raise self.raises
        if self.stopped:
            raise EngineStopped("stopped")
        if adapter is not None and adapter.name in self.broken:
            raise AdapterError(f'adapter "{adapter}": torn')
        if len(prompt) + sampling.max_tokens > self.max_length:
            raise PromptTooLong("too long")
        name = f"r{next(self._numbers)}"
        request = Request(list(prompt), sampling, adapter)
        self.requests[name] = request
        threading.Thread(target=self._answer, args=(request, notify), daemon=True).start()
        return name

    def _answer(self, request: Request, notify: Callable[[Event], None]) -> None:
        tokens = self.answer(request.prompt, request.sampling)
        cut = tokens[: request.sampling.max_tokens]
        for place, token in enumerate(cut):
            while place and not self.gate.wait(0.01):
                if request.cancelled.is_set():
                    break
            if request.cancelled.is_set():
                notify(Finished("cancelled"))
                return
            if place == self.fails_after:
                notify(Failed("the secret reason"))
                return
            notify(self._token(token, request.sampling.top_logprobs))
        notify(Finished("length" if len(cut) < len(tokens) else "stop"))

    def _token(self, token: int, top: int | None) -> Token:
        if top is None:
            return Token(token)
        return Token(token, -0.5, tuple((token + k, -0.5 - k) for k in range(top)))

    def cancel(self, request: str) -> None:
        self.requests[request].cancelled.set()

    def forget(self, adapter: Path) -> None:
        self.forgotten.append(adapter)


@dataclass
class Served:
    """A running server, and what is behind it."""

    url: str
    engine: FakeEngine
    store: Store
    app: FastAPI
    lifecycle: Lifecycle
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=20))
    clients: dict[str, openai.OpenAI] = field(default_factory=dict)

    def client(self, key: str = "none") -> openai.OpenAI:
        if key not in self.clients:
            made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)
            self.clients[key] = made
        return self.clients[key]

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.http.get(self.url + path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.http.post(self.url + path, **arguments)

    def close(self) -> None:
        self.http.close()
        for client in self.clients.values():
            client.close()


@contextmanager
def serving(
    engine: FakeEngine,
    state: Path,
    shared: Path | None = None,
    hub: HubAdapters | None = None,
    **limits: Any,
) -> Iterator[Served]:
    """Serve in a thread, on a port that is free."""
    state.mkdir(exist_ok=True)
    settings = Settings(state=state, port=0, **{"stop_seconds": 5, **limits})
    store, lifecycle = Store(database_url(state)), Lifecycle()
    registry = Registry(store, shared, engine.model_name, hub)
    app = create_app(settings, cast(Any, engine), store, registry, lifecycle)
    taken = listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    server = make_server(app, settings, lifecycle)
    served = Served(url, engine, store, app, lifecycle)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        until(lambda: server.started)
        yield served
    finally:
        served.close()
        engine.gate.set()
        lifecycle.drain()
        thread.join(20)
        store.close()
        taken.close()
