"""`reftune train` under a launcher: one message for one mistake, and no harm done by a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from reftune.cli import main
from reftune.training_log import read_log
from tests.distributed.ranks import free_port
from tests.distributed.trainings import ROWS, adapter, steps
from tests.tiny_text import save_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launched")
    save_tiny_model(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def words(folder: Path, out: str, *more: str) -> list[str]:
    """Return the arguments of a training of 80 steps, of four rows each."""
    given = {"model": folder / "model", "data": folder / "rows.jsonl", "out": folder / out}
    named = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["train", *named, "--epochs", "20", "--save-steps", "2", "--no-reuse", *more]


def launch(arguments: list[str], launcher: str = "torch") -> subprocess.Popen:
    """Start two processes."""
    port = str(free_port())
    start = {
        "torch": ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "-m"],
        "accelerate": [
            *("accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
            *("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"),
            *(f"--main_process_port={port}", "-m"),
        ],
    }[launcher]
    return subprocess.Popen(
        [sys.executable, "-m", *start, "reftune", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit code, and what was said."""
    said = process.communicate(timeout=300)
    return process.returncode, "".join(said)


def wait_for_steps(out: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until so many steps are logged."""
    for _ in range(3000):
        if len(read_log(out / "training.jsonl")) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise TimeoutError(f"{out}: expected {count} steps")


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> Path:
    assert main(words(folder, "unbroken", "--batch-size=4")) == 0
    return folder / "unbroken"


def assert_alike(found: Path, expected: Path) -> None:
    torch.testing.assert_close(torch.tensor(steps(found)), torch.tensor(steps(expected)))
    torch.testing.assert_close(adapter(found), adapter(expected))


def test_a_killed_process_ends_the_launch_and_the_same_command_goes_on(folder, unbroken):
    out = folder / "killed"
    for killed, more in ((1, []), (0, ["--resume"])):
        launcher = launch(words(folder, "killed", "--batch-size=2", *more))
        wait_for_steps(out, len(read_log(out / "training.jsonl")) + 7, launcher)
        ranks = {
            int(child.environ()["RANK"]): child for child in psutil.Process(launcher.pid).children()
        }
        ranks[killed].send_signal(signal.SIGKILL)
        code, _ = finish(launcher)
        assert code != 0
        assert not (out / "adapter_config.json").exists()
    assert finish(launch(words(folder, "killed", "--batch-size=2", "--resume")))[0] == 0
    assert_alike(out, unbroken)
    assert {path.name for path in out.iterdir()} == {path.name for path in unbroken.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_leaves_a_checkpoint_to_go_on_from(folder, unbroken, number):
    out = folder / number.name
    launcher = launch(words(folder, out.name, "--batch-size=2"))
    wait_for_steps(out, 5, launcher)
    launcher.send_signal(number)
    code, said = finish(launcher)
    assert code != 0
    assert said.count("reftune: interrupted (stopped after step ") == 1
    done = len(read_log(out / "training.jsonl"))
    assert (out / "checkpoints" / f"checkpoint-{done}").exists()
    assert main(words(folder, out.name, "--batch-size=4", "--resume")) == 0
    assert_alike(out, unbroken)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out=unbroken"], "holds a finished adapter"),
        (["--data=nowhere.jsonl", "--out=new"], "nowhere.jsonl"),
        (["--jobs=jobs.jsonl"], "--jobs runs in one process: expected no launcher, got 2"),
    ],
)
def test_a_mistake_is_told_once(folder, unbroken, arguments, says, monkeypatch):
    monkeypatch.chdir(folder)
    code, said = finish(launch(words(folder, "new", *arguments)))
    lines = [line for line in said.splitlines() if line.startswith("reftune: ")]
    assert code != 0
    assert len(lines) == 1
    assert says in lines[0]
    assert not (folder / "new").exists()


def test_accelerate_starts_the_same_training(folder, unbroken):
    code, said = finish(launch(words(folder, "by accelerate", "--batch-size=2"), "accelerate"))
    assert code == 0, said
    assert said.count("trainable parameters") == 1
    assert_alike(folder / "by accelerate", unbroken)
