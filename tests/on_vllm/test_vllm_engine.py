"""What the server asks of vLLM: answers, their ends and refusals, with a stand-in for vLLM."""

import asyncio
import queue
import threading
import time
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from reftune.serving.errors import AdapterError, EngineStopped, PromptTooLong
from reftune.serving.requests import Failed, Finished, Sampling, Token
from reftune.vllm.engine import VllmEngine
from tests.server.fake_engine import serving
from tests.tiny_text import byte_level


class FakeClient:
    """Answers a prompt with its own tokens, one by one, each when it is let."""

    max_length, max_requests, slots = 32, 2, 4

    def __init__(self) -> None:
        self.alive = True
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[tuple[list[int], Path | None]] = []
        self.taken_back: list[str] = []
        self.taken_back_slowly = 0.01  # seconds
        self.taken_back_when_shut: list[str] | None = None
        self.forgotten: list[Path] = []
        self.is_shut = False

    def check(self, adapter):
        if adapter.name == "broken":
            raise AdapterError(f'adapter "{adapter}": torn')

    def forget(self, adapter):
        self.forgotten.append(adapter)

    async def answer(self, name, prompt, sampling, adapter):
        self.asked.append((prompt, adapter))
        try:
            for token in prompt[: sampling.max_tokens]:
                while not self.gate.is_set():
                    await asyncio.sleep(0.005)
                if token == 13:
                    raise ZeroDivisionError("thirteen")
                yield Token(token)
        except asyncio.CancelledError:
            await asyncio.sleep(self.taken_back_slowly)
            self.taken_back.append(name)
            raise
        yield Finished("stop" if len(prompt) < sampling.max_tokens else "length")

    async def figures(self):
        return 3, 7

    def shutdown(self):
        self.taken_back_when_shut = [*self.taken_back]
        self.is_shut = True
        self.alive = False


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def engine(client):
    engine = VllmEngine(client, byte_level(chat=True), "tiny")
    engine.start()
    yield engine
    client.gate.set()
    engine.stop(drain=False)


class Asked:
    def __init__(self, engine, prompt, max_tokens=8, adapter=None) -> None:
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.threads: set[str] = set()
        self.id = engine.submit(prompt, Sampling(max_tokens), self.notify, adapter)

    def notify(self, event):
        self.threads.add(threading.current_thread().name)
        self.events.put(event)

    def all(self):
        found = []
        while not found or isinstance(found[-1], Token):
            found.append(self.events.get(timeout=10))
        return [token.id for token in found[:-1]], found[-1]


def until(done):
    ends = time.monotonic() + 10
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_answers_are_told_to_their_end(engine, client) -> None:
    asked = [Asked(engine, [5, 6, 7]), Asked(engine, list(range(20, 30)), adapter=Path("x/one"))]
    assert asked[0].all() == ([5, 6, 7], Finished("stop"))
    assert asked[1].all() == (list(range(20, 28)), Finished("length"))
    assert sorted(client.asked) == [([5, 6, 7], None), (list(range(20, 30)), Path("x/one"))]
    stats = engine.stats
    assert (stats.prompt_tokens, stats.generated_tokens) == (13, 11)
    assert (stats.slots, stats.slots_used, stats.evictions, stats.slot_loads) == (4, 3, 7, 10)


def test_a_cancelled_answer_is_taken_back(engine, client) -> None:
    client.gate.clear()
    asked = [Asked(engine, [5, 6, 7]) for _ in range(5)]
    assert (engine.running, engine.waiting) == (2, 3)
    until(lambda: len(client.asked) == 5)
    for one in asked[:4]:
        engine.cancel(one.id)
        engine.cancel(one.id)
        assert one.all() == ([], Finished("cancelled"))
    client.gate.set()
    assert asked[4].all() == ([5, 6, 7], Finished("stop"))
    engine.cancel(asked[4].id)
    engine.cancel("nobody")
    assert (engine.running, engine.waiting) == (0, 0)
    assert client.taken_back == [one.id for one in asked[:4]]
    assert set.union(*(one.threads for one in asked)) == {"vllm"}


def test_an_answer_that_was_not_begun_yet_is_cancelled(engine, client) -> None:
    begin = threading.Event()
    engine._loop.call_soon_threadsafe(begin.wait)
    one, other = Asked(engine, [5]), Asked(engine, [6])
    engine.cancel(one.id)
    begin.set()
    assert one.all() == ([], Finished("cancelled"))
    assert other.all() == ([6], Finished("stop"))
    assert client.asked == [([6], None)]


def test_what_vllm_raises_ends_one_answer(engine) -> None:
    bad, good = Asked(engine, [5, 13]), Asked(engine, [5, 6])
    assert bad.all() == ([5], Failed("ZeroDivisionError: thirteen"))
    assert good.all() == ([5, 6], Finished("stop"))


def test_refusals_are_told_at_once(engine, client) -> None:
    with pytest.raises(PromptTooLong, match=r"30 prompt tokens and 3 new ones: .* 32 at most"):
        Asked(engine, [5] * 30, max_tokens=3)
    with pytest.raises(PromptTooLong):
        Asked(engine, [])
    with pytest.raises(AdapterError, match="torn"):
        Asked(engine, [5], adapter=Path("x/broken"))
    engine.forget(Path("x/one"))
    assert client.forgotten == [Path("x/one")]
    client.alive = False
    with pytest.raises(EngineStopped):
        Asked(engine, [5])
    assert not engine.alive


@pytest.mark.parametrize("drain", [True, False])
def test_stopping(engine, client, drain) -> None:
    client.gate.clear()
    asked = Asked(engine, [5, 6])
    until(lambda: client.asked)
    stopping = threading.Thread(target=engine.stop, kwargs={"drain": drain})
    stopping.start()
    if drain:
        client.gate.set()
    assert asked.all() == (
        ([5, 6], Finished("stop")) if drain else ([], Failed("the engine was stopped"))
    )
    stopping.join(10)
    assert client.is_shut
    assert client.taken_back_when_shut == ([] if drain else [asked.id])
    assert asked.threads == {"vllm"}
    engine.cancel(asked.id)
    with pytest.raises(EngineStopped):
        Asked(engine, [5])


def test_stopping_does_not_wait_for_ever(engine, client, monkeypatch) -> None:
    monkeypatch.setattr("reftune.vllm.engine.ABORT_SECONDS", 0.05)
    client.taken_back_slowly = 0.3
    client.gate.clear()
    asked = Asked(engine, [5, 6])
    until(lambda: client.asked)
    engine.stop(drain=False)
    assert asked.all() == ([], Failed("the engine was stopped"))
    assert client.taken_back_when_shut == []


def test_what_vllm_cancels_when_it_is_shut_down_is_over_before_the_loop(
    engine, client, monkeypatch
) -> None:
    begun, over = threading.Event(), threading.Event()

    async def of_its_own():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            over.set()

    task = asyncio.run_coroutine_threadsafe(of_its_own(), engine._loop)
    assert begun.wait(10)
    monkeypatch.setattr(client, "shutdown", task.cancel)
    engine.stop()
    assert over.is_set()


def test_the_last_figures_do_when_vllm_has_none(engine, client, monkeypatch) -> None:
    before = engine.stats

    async def figures():
        raise RuntimeError("the engine core is dead")

    monkeypatch.setattr(client, "figures", figures)
    assert engine.stats == before
    assert engine.stats.slots_used == 3


def test_the_server_answers_with_it_and_takes_no_jobs(engine, tmp_path) -> None:
    engine.gate = engine._client.gate  # which is opened when the server stops
    with serving(cast(Any, engine), tmp_path, trains=False) as served:
        asked = {"model": "tiny", "prompt": [50, 51, 52], "max_tokens": 3, "temperature": 0}
        answer = served.post("/v1/completions", json=asked).json()
        assert answer["choices"][0]["text"] == engine.tokenizer.decode([50, 51, 52])
        assert answer["choices"][0]["finish_reason"] == "length"
        job = {"model": "tiny", "training_file": "file-x"}
        refused: httpx.Response = served.post("/v1/fine_tuning/jobs", json=job)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["code"] == "training_not_available"
        assert "reftune train" in error["message"]
        assert "--adapters" in error["message"]
        assert served.client().fine_tuning.jobs.list().data == []
        assert "reftune_evictions_total 7.0" in served.get("/metrics").text
