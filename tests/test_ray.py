"""A Ray cluster gives the answers of one process, also when workers are killed. `make test-ray`."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reftune.cli import main
from reftune.cluster import cluster_answers
from reftune.prompt_batches import in_batches
from tests.ray_cluster import Watched, two_machines
from tests.row_adapters import save_adapters
from tests.tiny_text import save_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own
PROMPTS = [[number] * (number % 5 + 1) for number in range(50)]
ROWS = 60


@pytest.fixture(scope="module")
def address():
    with two_machines() as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    save_tiny_model(folder / "model", chat=True)
    save_adapters(folder, ["anna", "ben", "default"])
    rows = [
        {"prompt": f"What is {'the fox ' * (i % 4)}{i}?", "adapter": ("anna", "ben", None)[i % 3]}
        for i in range(ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(folder: Path, out: str, *options: str) -> list[str]:
    names = ["--model", f"{folder}/model", "--data", f"{folder}/rows.jsonl"]
    settings = ["--batch-size", "4", "--max-new-tokens", "8"]
    return ["generate", *names, *settings, "--out", f"{folder}/{out}", *options]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--adapter", "{}/adapters/default", "--temperature", "1"],
        ["--adapters", "{}/adapters", "--adapter", "{}/adapters/default"],
    ],
    ids=["base", "drawn", "rows"],
)
def test_the_file_is_that_of_one_process_and_is_gone_on_with(folder, address, options):
    options = [option.format(folder) for option in options]
    assert main(command(folder, "here.jsonl", "--overwrite", *options)) == 0
    whole = (folder / "here.jsonl").read_bytes()
    cut = whole[: len(whole) // 2]
    (folder / "here.jsonl").write_bytes(cut)
    assert main(command(folder, "here.jsonl", "--ray", address, *options)) == 0
    assert (folder / "here.jsonl").read_bytes() == whole


def workers() -> list[psutil.Process]:
    """Return the running workers of the cluster, which this process has started."""
    below = psutil.Process().children(recursive=True)
    return [one for one in below if any("MapWorker" in part for part in command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has ended just now
        return []


def test_a_worker_that_is_killed_from_outside_loses_and_doubles_nothing(folder, address):
    assert main(command(folder, "one.jsonl", "--overwrite")) == 0
    out = folder / "many.jsonl"
    options = ["--ray", address, "--overwrite", "--max-new-tokens", "8"]
    tool = [sys.executable, "-m", "reftune", *command(folder, "many.jsonl", *options)]
    with subprocess.Popen(tool, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while running.poll() is None and not out.exists():
            time.sleep(0.05)
        victims = workers()
        victims[0].kill()
        _, said = running.communicate(timeout=500)
    assert running.returncode == 0, said
    assert len(victims) == 2
    assert out.read_bytes() == (folder / "one.jsonl").read_bytes()


def test_a_worker_that_dies_at_a_batch_loses_and_doubles_nothing(tmp_path, address):
    batches = in_batches(PROMPTS, 3)
    answers = list(cluster_answers(Watched(tmp_path, killed_at=15), batches, address))
    here = Watched(tmp_path)
    assert (tmp_path / "killed").exists()
    who = {path.name.partition("-")[2] for path in tmp_path.glob("*-*")}
    assert len(who) == 3  # two workers, and the one that came for the dead
    assert answers == [here.answer(batch) for batch in batches]


def test_what_a_worker_says_is_one_line(tmp_path, address):
    batches = in_batches(PROMPTS, 3)
    with pytest.raises(ValueError, match="a worker of the cluster failed: this batch is no good"):
        list(cluster_answers(Watched(tmp_path, fails_at=15), batches, address))


def test_an_adapter_that_does_not_fit_is_one_line(folder, address, capsys):
    options = ["--adapter", f"{folder}/adapters/wide", "--ray", address, "--overwrite"]
    save_adapters(folder, ["wide"], hidden_size=24)
    capsys.readouterr()
    assert main(command(folder, "none.jsonl", *options)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("reftune: error: a worker of the cluster failed: adapter")
    assert "does not fit the model" in said


def test_more_workers_than_processors_are_refused(tmp_path, address):
    with pytest.raises(ValueError, match="fewer workers than processors"):
        list(cluster_answers(Watched(tmp_path), in_batches(PROMPTS, 3), address, workers=3))
