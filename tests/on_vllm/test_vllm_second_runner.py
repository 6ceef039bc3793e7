"""vLLM's second model runner, which GPUs use, answers as `generate` does too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.on_vllm import second_runner
from tests.on_vllm.vllm_engines import ENVIRONMENT

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]


def test_its_answers_are_those_of_generate(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.on_vllm.second_runner", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **second_runner.ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert found.pop("runner") == "vllm.v1.worker.cpu.model_runner"
    assert found.pop("preemptions") > 0
    assert found == {"mixed": [], "extended": [], "preempted": []}
