"""vLLM does not start where edits would not act."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.on_vllm.vllm_engines import ENVIRONMENT, LLAMA

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    LLAMA.build().save_pretrained(folder)
    return folder


def run(model: Path, which: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.on_vllm.broken_vllm", str(model), which]
    inside = {**os.environ, **ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return subprocess.run(
        command, cwd=ROOT, env=inside, capture_output=True, text=True, timeout=400
    )


def test_whatever_is_broken_is_found(model) -> None:
    done = run(model, "parts")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")] or [""]
    found = json.loads(line.removeprefix("FOUND ") or "{}")
    assert found, done.stderr[-3000:]
    assert [name for name, said in found.items() if said == "passed"] == ["as it is", "as it was"]
    assert "nothing went through" in found["no hooks"]
    assert "without a plan" in found["no plan"]


def test_an_engine_whose_hooks_do_not_run_does_not_start(model) -> None:
    done = run(model, "start")
    assert done.returncode != 0
    assert "nothing went through" in done.stderr
