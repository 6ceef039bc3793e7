"""`reftune serve` as a program, asked by OpenAI's own client."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from reftune.assets import EMOJI_TRAIN, TINY_CHAT
from reftune.data import load_rows
from reftune.generation import GenerationSettings, encode_prompts, generate_answers
from reftune.server.database.records import Scope
from reftune.server.database.store import Store
from reftune.server.state import database_url, make_state
from tests.server.waiting import until

QUESTIONS = ["How are you today?", "Tell me about the ocean", "What is 2 + 3?"]
TOKENS = 24
LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+/v1)")


class Server:
    """A running server, and clients of it."""

    def __init__(self, process: subprocess.Popen, url: str, keys: dict[str, str]) -> None:
        self.process, self.url, self.keys = process, url, keys
        self._clients: list[openai.OpenAI] = []

    def client(self, tenant: str = "ada") -> openai.OpenAI:
        made = openai.OpenAI(base_url=self.url, api_key=self.keys[tenant], max_retries=0)
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.close()


def make_keys(state: Path, *tenants: str) -> dict[str, str]:
    make_state(state)
    store = Store(database_url(state))
    try:
        both = frozenset[Scope](("chat", "train"))
        return {tenant: store.create_key(tenant, both)[1] for tenant in tenants}
    finally:
        store.close()


@contextmanager
def serving(folder: Path, keys: dict[str, str]) -> Iterator[Server]:
    log = folder / "log"
    command = [
        sys.executable,
        "-m",
        "reftune",
        "serve",
        "--port",
        "0",
        "--state",
        f"{folder}/state",
    ]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stderr=errors)
    try:
        until(lambda: LISTENING.search(log.read_text()) or process.poll() is not None)
        found = LISTENING.search(log.read_text())
        assert found, log.read_text()
        server = Server(process, found[1], keys)
        try:
            yield server
        finally:
            server.close()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, make_keys(folder / "state", "ada", "ben")) as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY_CHAT)


def chat(text: str) -> list:
    return [{"role": "user", "content": text}]


def alone(tokenizer, adapter: Path | None = None) -> list[str]:
    """Answer the questions with `reftune.generation`, each by itself."""
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    rows = Dataset.from_list([{"prompt": question} for question in QUESTIONS])
    settings = GenerationSettings(max_new_tokens=TOKENS, batch_size=1)
    prompts = encode_prompts(rows, tokenizer)
    return [answer for [answer] in generate_answers(model, tokenizer, prompts, settings)]


def ask(client: openai.OpenAI, model: str, question: str, **options):
    options = {"temperature": 0, "max_tokens": TOKENS, **options}
    return client.chat.completions.create(model=model, messages=chat(question), **options)


def streamed(client: openai.OpenAI, model: str, question: str, **options) -> str:
    chunks = list(ask(client, model, question, stream=True, **options))
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_answers_are_those_of_the_library(server, tokenizer) -> None:
    client, expected = server.client(), alone(tokenizer)
    for question, answer in zip(QUESTIONS, expected, strict=True):
        assert ask(client, "tiny-chat", question).choices[0].message.content == answer
        assert streamed(client, "tiny-chat", question) == answer


def test_what_a_request_may_ask_for(server, tokenizer) -> None:
    client, question = server.client(), QUESTIONS[1]
    whole = ask(client, "tiny-chat", question, logprobs=True, top_logprobs=2, n=2)
    first, second = whole.choices
    assert first.message.content == second.message.content  # greedy, both
    told = first.logprobs.content
    assert "".join(token.token for token in told) == first.message.content
    for token in told:
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
    assert whole.usage.completion_tokens >= 2 * len(told)
    stop = first.message.content.split()[2]
    cut = ask(client, "tiny-chat", question, stop=stop).choices[0]
    assert cut.message.content == first.message.content.partition(stop)[0]
    assert cut.finish_reason == "stop"
    drawn = [
        ask(client, "tiny-chat", question, temperature=1.5, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_model_is_taught_and_nobody_else_sees_it(server, folder, tokenizer) -> None:
    ada, ben = server.client("ada"), server.client("ben")
    lines = [
        {
            "messages": [
                *chat(row["prompt"]),
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in load_rows(EMOJI_TRAIN)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = ada.files.create(file=("emoji.jsonl", content), purpose="fine-tune")
    job = ada.fine_tuning.jobs.create(
        model="tiny-chat", training_file=file.id, suffix="emoji", seed=1
    )
    running = job.id
    until(lambda: ada.fine_tuning.jobs.retrieve(running).finished_at)
    job = ada.fine_tuning.jobs.retrieve(running)
    assert (job.status, job.error) == ("succeeded", None)
    said = [event.message for event in ada.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert said[0] == "The job has successfully completed"
    [checkpoint] = ada.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model
    answers = [
        ask(ada, job.fine_tuned_model, text).choices[0].message.content for text in QUESTIONS
    ]
    assert answers == alone(tokenizer, folder / "state" / "adapters" / job.id)
    assert answers != alone(tokenizer)
    assert {model.id for model in ada.models.list()} == {"tiny-chat", job.fine_tuned_model}
    assert {model.id for model in ben.models.list()} == {"tiny-chat"}
    for forbidden in (
        lambda: ask(ben, job.fine_tuned_model, "hi"),
        lambda: ben.models.retrieve(job.fine_tuned_model),
        lambda: ben.models.delete(job.fine_tuned_model),
        lambda: ben.files.retrieve(file.id),
        lambda: ben.files.content(file.id),
        lambda: ben.files.delete(file.id),
        lambda: ben.fine_tuning.jobs.retrieve(job.id),
        lambda: ben.fine_tuning.jobs.cancel(job.id),
        lambda: ben.fine_tuning.jobs.create(model="tiny-chat", training_file=file.id),
        lambda: list(ben.fine_tuning.jobs.list_events(job.id)),
    ):
        with pytest.raises(openai.NotFoundError):
            forbidden()
    assert ada.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        ask(ada, job.fine_tuned_model, "hi")


def test_without_a_key_nothing_is_told(server) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0).models.list()


def test_an_answer_on_its_way_is_finished_when_the_server_is_told_to_stop(server, folder) -> None:
    """The last one: the server is gone afterwards."""
    client, options = server.client(), {"max_tokens": 200, "temperature": 2.0, "seed": 5}
    whole = ask(client, "tiny-chat", QUESTIONS[1], **options).choices[0].message.content
    chunks = ask(client, "tiny-chat", QUESTIONS[1], stream=True, **options)
    text = next(chunks).choices[0].delta.content or ""
    server.process.send_signal(signal.SIGTERM)
    for chunk in chunks:
        text += chunk.choices[0].delta.content or ""
    assert text == whole
    assert chunk.choices[0].finish_reason in ("stop", "length")
    assert server.process.wait(30) == 0
    log = (folder / "log").read_text()
    assert log.rstrip().endswith("stopped")
    assert "Traceback" not in log
    assert QUESTIONS[1] not in log
