"""Whatever is sent, what comes back is an error as OpenAI writes it, and never a stack trace."""

import json
import logging

import httpx
import pytest

from reftune.server.logs import JsonLines
from tests.server.fake_engine import FakeEngine, serving
from tests.server.waiting import until
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
USER = [{"role": "user", "content": "hi"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: [70, 71])
    state = tmp_path_factory.mktemp("state")
    limits = {"max_body_bytes": 10_000, "max_prompt_tokens": 100, "max_tokens": 50}
    with serving(engine, state, max_choices=4, **limits) as served:
        yield served


def error_of(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"].startswith("req_")
    [(name, error)] = response.json().items()
    assert name == "error"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"model": "\xff"}', "invalid_body"),
        (b"[" * 9000, "invalid_body"),
        (b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}", "invalid_body"),
        (b'{"messages": []}', "missing_required_parameter"),
        (b'{"model": "tiny"}', "missing_required_parameter"),
    ],
)
def test_bodies_that_are_none(server, body, code):
    error = error_of(server.post(CHAT, content=body, headers=JSON), 400)
    assert (error["code"], error["type"]) == (code, "invalid_request_error")


def test_a_body_that_says_it_is_something_else(server):
    body = json.dumps({"model": "tiny", "messages": USER})
    for headers in ({}, {"content-type": "text/plain"}):
        assert (
            "Content-Type"
            in error_of(server.post(CHAT, content=body, headers=headers), 400)["message"]
        )


PARAMETERS = [
    ("temperature", 3),
    ("temperature", -1),
    ("temperature", "1"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.5),
    ("n", 0),
    ("n", 5),
    ("n", 1.5),
    ("max_tokens", 0),
    ("max_tokens", 51),
    ("max_completion_tokens", -3),
    ("seed", 2**63),
    ("seed", "x"),
    ("stop", ["a"] * 5),
    ("stop", ""),
    ("stop", [1]),
    ("stream", "yes"),
    ("stream_options", {"include_usage": True}),
    ("logprobs", 3),
    ("top_logprobs", 3),
    ("top_logprobs", 21),
    ("tools", [{"type": "function"}]),
    ("tool_choice", "required"),
    ("functions", [{}]),
    ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "json_schema", "json_schema": {}}),
    ("logit_bias", {"50": 1}),
    ("frequency_penalty", 0.5),
    ("presence_penalty", -1),
    ("modalities", ["audio"]),
    ("audio", {"voice": "x"}),
    ("reasoning_effort", "high"),
    ("guided_json", {}),
    ("messages", []),
    ("messages", "hi"),
    ("messages", [{"role": "assistant", "content": "I answer nobody."}]),
    ("messages", [{"role": "user", "content": " "}]),
    ("messages[0]", [1]),
    ("messages[0].role", [{"role": "tool", "content": "x"}]),
    ("messages[0].role", [{"content": "x"}]),
    ("messages[0].content", [{"role": "user"}]),
    ("messages[0].content", [{"role": "user", "content": 3}]),
    ("messages[0].content", [{"role": "user", "content": "\ud800"}]),
    ("messages[1].tool_calls", [*USER, {"role": "user", "content": "x", "tool_calls": [{}]}]),
    ("messages[0].content[0]", [{"role": "user", "content": [{"type": "image_url"}]}]),
    ("messages[0].content[0].text", [{"role": "user", "content": [{"type": "text"}]}]),
]


@pytest.mark.parametrize(("param", "value"), PARAMETERS)
def test_values_without_a_meaning_here_are_named(server, param, value):
    body = {"model": "tiny", "messages": USER, param.partition("[")[0]: value}
    server.engine.requests.clear()
    error = error_of(server.post(CHAT, content=json.dumps(body), headers=JSON), 400)
    assert error["param"] == param
    assert not server.engine.requests


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("echo", True),
        ("best_of", 3),
        ("suffix", "end"),
        ("logprobs", 6),
        ("prompt", ""),
        ("prompt", []),
        ("prompt", 3),
        ("prompt", {"a": 1}),
        ("prompt", [70, -1]),
        ("prompt", [70, 10**9]),
        ("prompt[1]", ["a", 3]),
        ("prompt[1]", ["a", ""]),
        ("prompt[0]", [[]]),
        ("prompt[1]", [[70], [70, True]]),
    ],
)
def test_values_without_a_meaning_in_a_completion_are_named(server, param, value):
    body = {"model": "tiny", "prompt": "a", param.partition("[")[0]: value}
    assert error_of(server.post(COMPLETIONS, json=body), 400)["param"] == param


def test_numbers_that_are_not_finite(server):
    body = b'{"model": "tiny", "messages": [], "temperature": NaN}'
    assert error_of(server.post(CHAT, content=body, headers=JSON), 400)["param"] == "temperature"


def test_prompts_and_answers_that_are_too_long(server):
    long = [{"role": "user", "content": "1 " * 60}]
    error = error_of(server.post(CHAT, json={"model": "tiny", "messages": long}), 400)
    assert error["code"] == "context_length_exceeded"
    body = {"model": "tiny", "messages": USER, "max_tokens": 1000}
    error = error_of(server.post(CHAT, json=body), 400)
    assert error["code"] == "context_length_exceeded"
    assert "1000" in error["message"]


def test_too_many_answers(server):
    body = {"model": "tiny", "prompt": ["a", "b", "c"], "n": 2}
    assert error_of(server.post(COMPLETIONS, json=body), 400)["param"] == "n"


def test_bodies_that_are_too_long_are_not_read(server):
    long = b" " * 10_001
    assert error_of(server.post(CHAT, content=long, headers=JSON), 413)["code"] == "too_large"
    parts = (b" " * 1000 for _ in range(11))  # sent without saying how long it is
    assert error_of(server.post(CHAT, content=parts, headers=JSON), 413)["code"] == "too_large"


def test_models_and_paths_that_are_not_there(server):
    for model in ("none", "../tiny", "ft:tiny:x:12345678", "a" * 300):
        body = {"model": model, "messages": USER}
        response = server.post(CHAT, json=body)
        assert response.status_code in (400, 404)
        error_of(response, response.status_code)
    assert error_of(server.get("/v1/nothing"), 404)["code"] == "unknown_url"
    assert error_of(server.get(CHAT), 405)["code"] == "method_not_allowed"


def test_an_error_of_our_own_tells_nothing_and_is_logged_without_its_message(
    server, monkeypatch, caplog
):
    monkeypatch.setattr(server.engine, "raises", RuntimeError("my secret prompt"))
    with caplog.at_level(logging.INFO, "reftune"):
        error = error_of(server.post(CHAT, json={"model": "tiny", "messages": USER}), 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    lines = [JsonLines().format(record) for record in caplog.records]
    assert not any("secret" in line for line in lines)
    [fault] = [line for line in map(json.loads, lines) if line["event"] == "error"]
    assert fault["error"] == "RuntimeError"
    assert any("fake_engine" in place for place in fault["trace"])


def test_the_log_has_a_line_for_each_request_and_no_text_of_it(server, caplog):
    prompt = [{"role": "user", "content": "xyzzy"}]

    def lines_of(responses: list[httpx.Response]) -> list[dict]:
        own = [response.headers["x-request-id"] for response in responses]
        lines = [json.loads(JsonLines().format(record)) for record in list(caplog.records)]
        return [line for line in lines if line.get("request") in own]

    with caplog.at_level(logging.INFO, "reftune"):
        responses = [
            server.post(CHAT, json={"model": "tiny", "messages": prompt}),
            server.post(CHAT, json={"model": "tiny", "messages": prompt, "xyzzy": 1}),
            server.get("/v1/models/xyzzy"),
        ]
        # A line is written after its answer is sent, so one of an earlier test may be here too.
        until(lambda: len(lines_of(responses)) >= len(responses))
    assert not any("xyzzy" in JsonLines().format(record) for record in caplog.records)
    facts = lines_of(responses)
    assert [one["status"] for one in facts] == [200, 400, 404]
    assert facts[0]["answer_tokens"] == 2
    assert facts[0]["prompt_tokens"] > 2
    assert facts[0]["seconds"] >= 0
    assert facts[0]["tenant"] == "local"
