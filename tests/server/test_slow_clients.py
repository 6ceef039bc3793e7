"""Clients that send slowly, or nothing at all, keep nothing of the server."""

import json
import socket
import threading
import time

import pytest

from reftune.server.running import make_server
from reftune.server.settings import Settings
from tests.server.fake_engine import FakeEngine, serving
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
USER = [{"role": "user", "content": "hi"}]
BODY = json.dumps({"model": "tiny", "messages": USER, "max_tokens": 4}).encode()
SECONDS = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: [70, 71, 72, 73])
    with serving(engine, tmp_path_factory.mktemp("slow"), receive_seconds=SECONDS) as served:
        yield served


FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def head(method: str, path: str, length: int, kind: str = "application/json") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def dripped(server, at_once: bytes, drops: bytes, size: int = 1) -> tuple[bytes, float]:
    """Send the rest in drops until the server closes; return what it said and after how long."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
        line.settimeout(0.1)
        began, said = time.monotonic(), b""
        line.sendall(at_once)
        while time.monotonic() - began < 10:
            drop, drops = drops[:size], drops[size:]
            try:
                line.sendall(drop)
                got = line.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            said += got
            if not got:
                break
        return said, time.monotonic() - began


@pytest.mark.parametrize(
    ("at_once", "drops"),
    [
        (b"", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: ", b"x" * 1000),
        (head("GET", "/healthz", 10**6), b"x" * 1000),  # answered; nobody reads its body
    ],
    ids=["nothing", "head", "unread body"],
)
def test_without_a_request_the_connection_is_closed(server, at_once, drops) -> None:
    said, seconds = dripped(server, at_once, drops)
    assert (b"200 OK" in said) == (b"\r\n\r\n" in at_once)
    assert SECONDS * 0.9 < seconds < SECONDS + 4


@pytest.mark.parametrize(
    "at_once",
    [
        head("POST", "/v1/chat/completions", 10_000),
        head("POST", "/v1/files", 10_000, "multipart/form-data; boundary=x") + FORM,
    ],
    ids=["chat", "file"],
)
# Older starlettes leave it to Python to close the file of an upload that was broken off.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_that_comes_slowly_is_refused(server, at_once) -> None:
    said, seconds = dripped(server, at_once, b"{" * 1000)
    lines, _, error = said.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in lines
    assert json.loads(error)["error"]["code"] == "too_slow"
    assert SECONDS * 0.9 < seconds < SECONDS + 4


def test_a_body_that_keeps_coming_may_take_longer(server, monkeypatch) -> None:
    monkeypatch.setattr("reftune.server.api.bodies.BYTES_PER_SECOND", 50)
    padded = BODY + b" " * (200 - len(BODY))
    said, seconds = dripped(server, head("POST", "/v1/chat/completions", 200), padded, size=10)
    assert said.startswith(b"HTTP/1.1 200")
    assert seconds > 1.9 * SECONDS


def test_no_connection_is_made_another_kind_of(server, tmp_path) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    keys = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    said, seconds = dripped(server, upgrade + b"Upgrade: websocket\r\n" + keys + b"\r\n", b"")
    assert said.startswith(b"HTTP/1.1 200")
    assert SECONDS * 0.9 < seconds < SECONDS + 4
    made = make_server(server.app, Settings(tmp_path), server.lifecycle)
    assert made.config.ws == "none"  # where a library for websockets is installed as well


def test_requests_behind_a_slow_one_in_one_connection(server) -> None:
    chunked = head("POST", "/v1/chat/completions", 0).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    parts = [BODY[:20], BODY[20:], b""]
    chunked += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    server.engine.gate.clear()
    timer = threading.Timer(1.2 * SECONDS, server.engine.gate.set)
    timer.start()
    said, seconds = dripped(server, chunked + chunked + head("GET", "/healthz", 0), b"")
    assert said.count(b"HTTP/1.1 200") == 3
    # And it is closed as late as one that was never used.
    assert 2.1 * SECONDS < seconds < 2.2 * SECONDS + 4
    timer.join()


def test_a_connection_that_is_used_near_its_limit(server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
        line.settimeout(5)
        for _ in range(3):
            time.sleep(0.6 * SECONDS)
            line.sendall(head("GET", "/healthz", 0))
            said = b""
            while not said.endswith(b"}"):
                got = line.recv(65536)
                assert got, "the server has closed"
                said += got
            assert said.startswith(b"HTTP/1.1 200")


def test_an_answer_may_take_longer(server) -> None:
    server.engine.gate.clear()
    timer = threading.Timer(1.5 * SECONDS, server.engine.gate.set)
    timer.start()
    answer = server.client().chat.completions.create(model="tiny", messages=USER, stream=True)
    assert [c.choices[0].finish_reason for c in answer][-1] == "stop"
    timer.join()
    # And the same connection serves on.
    assert server.client().chat.completions.create(model="tiny", messages=USER).choices
