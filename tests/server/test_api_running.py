"""The server as a whole: it stops when its answers are given, and says how it is."""

import json
import logging
import threading

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reftune.cli import main
from reftune.server.logs import JsonLines, describe
from tests.server.fake_engine import FakeEngine, serving
from tests.server.waiting import until
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
USER = [{"role": "user", "content": "hi"}]
TOKENS = [70, 71, 72, 73]


@pytest.fixture
def server(tmp_path):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: TOKENS)
    with serving(engine, tmp_path, stop_seconds=300) as served:  # longer than any test waits
        yield served


def test_running_answers_finish_and_new_ones_are_refused(server):
    server.engine.gate.clear()
    running = server.client().chat.completions.create(model="tiny", messages=USER, stream=True)
    text = next(running).choices[0].delta.content
    server.lifecycle.drain()
    assert server.get("/healthz").status_code == 503
    with pytest.raises(openai.APIStatusError) as caught:
        server.client().chat.completions.create(model="tiny", messages=USER)
    assert (caught.value.status_code, caught.value.code) == (503, "stopping")
    server.engine.gate.set()
    for chunk in running:
        text += chunk.choices[0].delta.content or ""
    assert text == TOKENIZER.decode(TOKENS)
    assert chunk.choices[0].finish_reason == "stop"
    until(lambda: refuses_to_connect(server.url))


def refuses_to_connect(url):
    try:
        httpx.get(f"{url}/healthz", timeout=5)
    except httpx.TransportError:
        return True
    return False


def test_answers_that_take_too_long_do_not_keep_the_server(tmp_path):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: TOKENS)
    with serving(engine, tmp_path, stop_seconds=1) as served:
        engine.gate.clear()
        ended = threading.Event()

        def ask():
            with pytest.raises(openai.APIError):
                served.client().chat.completions.create(model="tiny", messages=USER)
            ended.set()

        threading.Thread(target=ask).start()
        until(lambda: engine.requests)
        served.lifecycle.drain()
        assert ended.wait(20)
        until(lambda: all(request.cancelled.is_set() for request in engine.requests.values()))


def figures(server):
    text = server.get("/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics(server):
    client = server.client().chat.completions
    client.create(model="tiny", messages=USER)
    list(client.create(model="tiny", messages=USER, n=2, stream=True))
    server.get("/v1/models/some-name")
    chat = "/v1/chat/completions"
    wanted = {
        ("reftune_requests_total", chat, "200", "POST"): 2,
        ("reftune_requests_total", "/v1/models/{model:path}", "404", "GET"): 1,
    }
    # A request is counted after its answer is sent.
    until(lambda: wanted.items() <= figures(server).items())
    found = figures(server)
    assert found["reftune_answer_tokens_total",] == 3 * len(TOKENS)
    prompts = [request.prompt for request in server.engine.requests.values()]
    assert found["reftune_prompt_tokens_total",] == len(prompts[0]) * 2
    assert found["reftune_time_to_first_token_seconds_count",] == 2
    assert found["reftune_request_seconds_count", chat] == 2
    assert found["reftune_queue",] == 0
    assert found["reftune_slots",] == 4
    assert found["reftune_slots_used",] == 2
    assert found["reftune_slot_loads_total",] == 7
    assert found["reftune_evictions_total",] == 3
    # What a client makes up is no label.
    server.http.request("BREW", server.url + "/v1/coffee")
    until(lambda: ("reftune_requests_total", "404", "other", "unknown") in figures(server))
    assert not any("coffee" in label for names in figures(server) for label in names)


def test_many_clients_at_once_get_their_own_answers(tmp_path):
    def answer(prompt, sampling):
        return TOKENIZER(f"seed {sampling.seed}", add_special_tokens=False)["input_ids"]

    with serving(FakeEngine(TOKENIZER, answer), tmp_path) as served:
        client, texts = served.client(), {}

        def ask(seed):
            got = client.chat.completions.create(
                model="tiny", messages=USER, seed=seed, stream=bool(seed % 2)
            )
            if seed % 2:
                texts[seed] = "".join(chunk.choices[0].delta.content or "" for chunk in got)
            else:
                texts[seed] = got.choices[0].message.content

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == {seed: f"seed {seed}" for seed in range(40)}


def test_a_log_line_is_json_and_an_error_has_no_message_in_it():
    record = logging.LogRecord("reftune", logging.INFO, "x.py", 1, "begun %s", ("now",), None)
    record.facts = {"status": 200}
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["level"], line["status"]) == ("begun now", "info", 200)
    try:
        raise ValueError("secret")
    except ValueError as error:
        told = describe(error)
    assert told["error"] == "ValueError"
    assert "secret" not in json.dumps(told)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "reftune keys create"),
        (["--slots", "0"], "--slots 0: expected 1 or more"),
        (["--max-files", "0"], "max_files 0: expected 1 or more"),
        (["--port", "70000"], "port 70000"),
        (["--allow-hub", "me/*", "me"], 'allow-hub "me": expected e.g. owner/name'),
        (["--host", "no.such.host.invalid"], "reftune keys create"),
        (["--adapters", "nowhere"], 'adapters "nowhere": expected a folder'),
        (["--model", "./nowhere"], "no such folder"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, capsys, options, message):
    command = ["serve", "--state", str(tmp_path / "state"), "--port", "0"]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
