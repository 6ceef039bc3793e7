"""vLLM's own server with the plug-in, and `reftune serve` on vLLM, answer as `generate` does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import pytest

from reftune.vllm.settings import VllmSettings, engine_arguments
from tests.on_vllm.vllm_engines import ENVIRONMENT
from tests.serving.served import Alone, write_adapter
from tests.tiny_text import byte_level, save_tiny_model, tiny_llama

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]
SHAPE = {"hidden_size": 64, "num_hidden_layers": 3}
NAMES = ("one", "two", "three")
LONGEST = 600  # seconds until a server is there, on a busy machine
PROMPT = list(range(20, 60))


def build():
    return tiny_llama(byte_level(chat=True), **SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    save_tiny_model(folder / "model", chat=True, **SHAPE)
    for seed, name in enumerate(NAMES):
        where = {"layers": [1], "positions": "f2+l2", "decode": "all" if seed else "none"}
        write_adapter(folder / "adapters" / name, build(), seed, **where)
    return folder


@pytest.fixture(scope="module")
def wanted(folder):
    """The first tokens of what `generate` answers to one prompt, by adapter."""
    folders = {name: folder / "adapters" / name for name in NAMES}
    alone = Alone(SimpleNamespace(build=build), folders)
    found = {name: alone.ids(PROMPT, folders.get(name)) for name in (*NAMES, "model")}
    assert len(set(map(tuple, found.values()))) == 4
    return found


@contextmanager
def server(command: list[str], port: int, out: Path):
    """Run a server until it has answered that it is well; end it by SIGINT to it alone."""
    inside = {**os.environ, **ENVIRONMENT, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    with out.open("w") as log:
        process = subprocess.Popen(command, env=inside, stdout=log, stderr=log, text=True)
    try:
        ends = time.monotonic() + LONGEST
        while not is_well(port):
            assert process.poll() is None, out.read_text()[-3000:]
            assert time.monotonic() < ends, out.read_text()[-3000:]
            time.sleep(0.5)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            yield http
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def is_well(port: int) -> bool:
    for path in ("/health", "/healthz"):
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 200:
                return True
        except httpx.TransportError:
            return False
    return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def vllm_command(folder: Path, port: int) -> list[str]:
    own = engine_arguments(VllmSettings(adapters=str(folder / "adapters")))
    settings = json.dumps(own["additional_config"])
    return [
        # `vllm serve` looks for a version of `vllm`, which the third party's build has not.
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", f"{folder}/model",
        "--port", str(port), "--host", "127.0.0.1", "--served-model-name", "model",
        "--worker-cls", own["worker_cls"], "--additional-config", settings,
        "--lora-modules", f"one={folder}/adapters/one",
        "--dtype", "float32", "--enforce-eager", "--max-model-len", "128", "--block-size", "32",
        "--max-num-batched-tokens", "32",
    ]  # fmt: skip


def reftune_command(folder: Path, port: int, state: Path) -> list[str]:
    arguments = {
        "max_model_len": 128,
        "enforce_eager": True,
        "block_size": 32,
        "kv_cache_memory_bytes": 2**28,
    }
    return [
        sys.executable, "-m", "reftune", "serve", "--engine", "vllm", "--model", f"{folder}/model",
        "--adapters", f"{folder}/adapters", "--state", str(state), "--slots", "2",
        "--port", str(port), "--vllm", json.dumps(arguments), "--dtype", "float32",
    ]  # fmt: skip


def test_vllms_own_server(folder, wanted, tmp_path) -> None:
    port = free_port()
    command = vllm_command(folder, port)
    with server(command, port, tmp_path / "log") as http:

        def post(model, **more):
            asked = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
            return http.post("/v1/completions", json={**asked, "return_token_ids": True, **more})

        def ids(model, **more):
            answer = post(model, **more).raise_for_status().json()["choices"][0]["token_ids"]
            return answer[:-1] if answer[-1] == 2 else answer

        assert {one["id"] for one in http.get("/v1/models").json()["data"]} == {"model", "one"}
        for _ in range(2):  # the second time from the cache
            assert ids("model") == wanted["model"]
            assert ids("one") == wanted["one"]
            assert ids("model", vllm_xargs={"reft": "two"}) == wanted["two"]
            assert ids("three") == wanted["three"]  # found by its folder
        assert ids("model", vllm_xargs={"reft": "one"}) == wanted["one"]
        wrong = [
            post("nobody"),
            post("model", vllm_xargs={"reft": "nobody"}),
            post("model", vllm_xargs={"reft": "../model"}),
            post("one", vllm_xargs={"reft": "two"}),
            post("model", cache_salt="reftune:x"),
            post("one", cache_salt="reftune:x"),
            post("one", use_beam_search=True, n=2),
        ]
        served = [one.text for one in wrong if not 400 <= one.status_code < 500]
        assert served == []
        assert ids("two") == wanted["two"]


def test_reftunes_server_on_vllm(folder, wanted, tmp_path) -> None:
    port = free_port()
    command = reftune_command(folder, port, tmp_path / "state")
    decode = byte_level(chat=True).decode
    with server(command, port, tmp_path / "log") as http:
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0
        )
        with client:
            assert {model.id for model in client.models.list()} == {"model", *NAMES}
            for name, ids in wanted.items():
                asked = {"model": name, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
                answer = client.completions.create(**asked, logprobs=2).choices[0]
                assert answer.text == decode(ids)
                assert answer.logprobs is not None
                assert len(answer.logprobs.token_logprobs or []) == len(ids)
            chat = [{"role": "user", "content": "What is the capital of France?"}]
            seeded = {"model": "two", "messages": chat, "max_tokens": 8, "seed": 3}
            answers = {
                "".join(
                    chunk.choices[0].delta.content or ""
                    for chunk in client.chat.completions.create(**seeded, stream=True)
                )
                for _ in range(2)
            }
            assert len(answers) == 1
            with pytest.raises(openai.BadRequestError, match="reftune train"):
                client.fine_tuning.jobs.create(model="model", training_file="file-x")
            with pytest.raises(openai.NotFoundError):
                client.completions.create(model="nobody", prompt="x")
        figures = http.get("/metrics").text
        assert "reftune_slots 2.0" in figures
        assert "reftune_slots_used 2.0" in figures
        before = time.monotonic()
    assert "stopped" in (tmp_path / "log").read_text()
    assert time.monotonic() - before < 50
