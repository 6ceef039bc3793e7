"""`reftune train --jobs`: what it reads, prints, writes and refuses, always through `main`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reftune.cli import main
from tests.test_cli import PAIRS, fails
from tests.tiny_text import save_tiny_model

COMMON = ["--epochs", "2", "--batch-size", "4", "--positions", "f1+l1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and data."""
    folder = tmp_path_factory.mktemp("jobs")
    save_tiny_model(folder / "model", chat=True)
    (folder / "data.jsonl").write_text(PAIRS)
    (folder / "other.jsonl").write_text("".join(PAIRS.splitlines(keepends=True)[:3]))
    return folder


def command(folder: Path, text: str, *options: str, name: str = "jobs.jsonl") -> list[str]:
    file = folder / name
    file.write_text(text)
    model = ["--model", f"{folder}/model", "--data", f"{folder}/data.jsonl"]
    return ["train", "--jobs", str(file), *model, *COMMON, *options]


def lines(*jobs: dict) -> str:
    return "".join(json.dumps(job) + "\n" for job in jobs)


def config_of(out: Path) -> dict:
    return json.loads((out / "adapter_config.json").read_text())


def recipe_of(out: Path) -> dict:
    return json.loads((out / "recipe.json").read_text())


def test_jobs_are_trained_with_their_own_options_before_those_of_the_command_line(
    folder, tmp_path, capsys
) -> None:
    text = lines(
        {"out": f"{tmp_path}/a", "layers": [0, -1], "batch-size": 2, "lr": "1e-2", "decode": 3},
        {"out": f"{tmp_path}/b", "data": f"{folder}/other.jsonl", "untied": True, "r": 2},
        {"out": f"{tmp_path}/c", "layers": 1, "eval_data": f"{folder}/other.jsonl", "lr": 1},
    )
    assert main(command(folder, text, "--layers", "0", "--json", "--rows-per-pass", "8")) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert [fact["adapter"] for fact in facts] == [f"{tmp_path}/{name}" for name in "abc"]
    assert [fact["steps"] for fact in facts] == [8, 2, 4]
    assert [fact["rows"] for fact in facts] == [8, 3, 8]
    configs = [config_of(tmp_path / name) for name in "abc"]
    assert [config["layers"] for config in configs] == [[0, 1], [0], [1]]
    assert [config["tied"] for config in configs] == [True, False, True]
    assert [config["r"] for config in configs] == [4, 2, 4]
    assert [config["decode"] for config in configs] == [3, "none", "none"]
    assert [recipe_of(tmp_path / name)["lr"] for name in "abc"] == [0.01, 0.001, 1.0]
    for name, fact in zip("abc", facts, strict=True):
        said = [line for line in err.splitlines() if f"reftune: {tmp_path}/{name}: loss" in line]
        assert len(said) == 1
        assert f"after {fact['steps']} steps" in said[0]
    assert '"eval_loss"' in (tmp_path / "c" / "training.jsonl").read_text()


def test_a_job_is_the_training_that_the_command_line_would_be(folder, tmp_path) -> None:
    job = lines({"out": f"{tmp_path}/job", "lr": 0.01, "seed": 3})
    assert main(command(folder, job)) == 0
    options = ["--lr", "0.01", "--seed", "3", *COMMON]
    model = ["--model", f"{folder}/model", "--data", f"{folder}/data.jsonl"]
    assert main(["train", *model, "--out", f"{tmp_path}/alone", *options]) == 0
    assert recipe_of(tmp_path / "job") == recipe_of(tmp_path / "alone")
    assert config_of(tmp_path / "job") == config_of(tmp_path / "alone")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.json", '[{"out": "OUT/a", "lr": 2e-3},\n {"out": "OUT/b"}]'),
        ("jobs.yaml", "- out: OUT/a\n  lr: 2e-3\n- {out: OUT/b}\n"),
    ],
)
def test_lists_in_json_and_yaml_are_the_same(folder, tmp_path, capsys, name, text) -> None:
    text = text.replace("OUT", str(tmp_path))
    assert main(command(folder, text, name=name)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["adapter", "rows", "steps", "loss", "seconds"]
    assert [line.split()[0] for line in shown[2:]] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert recipe_of(tmp_path / "a")["lr"] == 2e-3


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"out": "x"}\n{"out": "y", "lrr": 1}\n', ['line 2: unknown key "lrr"', "lr"]),
        ("a.jsonl", '{"out": "x", "model": "m"}', ['line 1: unknown key "model"']),
        ("a.jsonl", '{"out": "x", "jobs": "m"}', ['line 1: unknown key "jobs"']),
        ("a.jsonl", '{"lr": 1}\n', ['line 1: "out" is missing']),
        ("a.jsonl", '\n{"out": "x", "r": 1.5}\n', ['line 2: "r" is 1.5; expected a whole number']),
        ("a.jsonl", '{"out": "x", "r": true}', ['"r" is True; expected a whole number']),
        ("a.jsonl", '{"out": "x", "lr": "fast"}', ["\"lr\" is 'fast'; expected a number"]),
        ("a.jsonl", '{"out": "x", "lr": null}', ['"lr" is None; expected a number']),
        ("a.jsonl", '{"out": "x", "lr": 0}', ["line 1: lr 0", "more than 0"]),
        ("a.jsonl", '{"out": 5}', ['"out" is 5; expected text']),
        ("a.jsonl", '{"out": "x", "untied": "yes"}', ["\"untied\" is 'yes'; expected true"]),
        ("a.jsonl", '{"out": "x", "layers": ["a"]}', ["\"layers\" is ['a']; expected a list"]),
        ("a.jsonl", '{"out": "x", "layers": [9]}', ["line 1", "9", "-2 to 1"]),
        ("a.jsonl", '{"out": "x", "layers": "5-3"}', ["line 1", "5-3", "empty"]),
        ("a.jsonl", '{"out": "x", "positions": "p"}', ["line 1", "positions", "f7+l7"]),
        ("a.jsonl", '{"out": "x", "schedule": "up"}', ["\"schedule\" is 'up'", "linear"]),
        ("a.jsonl", '{"out": "x", "batch-size": 2, "batch_size": 2}', ["given twice"]),
        ("a.jsonl", '{"out": "x", "data": "nowhere.jsonl"}', ["line 1", "nowhere", "no such file"]),
        ("a.jsonl", '{"out": "x", "batch_size": 99}\n{"out": "x"}', ["line 2", "line 1", "too"]),
        ("a.jsonl", '{"out": "x"\n', ["line 1", "not JSON"]),
        ("a.jsonl", "[1]\n", ["line 1: expected an object", "[1]"]),
        ("a.jsonl", "\n", ["no jobs"]),
        ("a.json", '{"out": "x"}', ["expected a list of jobs"]),
        ("a.json", '[{"out": "x"}, {"out": "y", "r": []}]', ['job 2: "r" is []']),
        ("a.json", "[", ["not JSON"]),
        ("a.yaml", "- out: x\n- out: y\n  r: [1\n", ["not YAML"]),
        ("a.yaml", "- out: x\n\n- out: y\n  r: one\n", ["line 3: \"r\" is 'one'"]),
        ("a.yaml", "out: x\n", ["expected a list of jobs"]),
        ("a.yaml", "", ["expected a list of jobs"]),
        ("a.txt", "x", ["a.txt", ".jsonl, .json"]),
    ],
)
def test_wrong_files_of_jobs(folder, capsys, monkeypatch, tmp_path, name, text, says) -> None:
    monkeypatch.chdir(tmp_path)
    fails(capsys, command(folder, text, name=name), name, *says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rows-per-pass", "0"], ["--rows-per-pass 0", "1 or more"]),
        (["--rows-per-pass", "3"], ["line 1", "batches of 4 rows: expected at most 3"]),
        (["--jobs", "nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
        (["--r", "99"], ["line 1", "r=99"]),
    ],
)
def test_wrong_commands_with_jobs(folder, capsys, tmp_path, options, says) -> None:
    text = lines({"out": f"{tmp_path}/x"})
    fails(capsys, [*command(folder, text), *options], *says)
    assert not list(tmp_path.iterdir())


def test_without_jobs_data_and_out_are_needed(folder, capsys) -> None:
    fails(capsys, ["train", "--data", f"{folder}/data.jsonl"], "--out", "--jobs")
    fails(capsys, ["train", "--out", "x"], "--data", "--jobs")
    both = ["--data", f"{folder}/data.jsonl", "--out", "x"]
    fails(capsys, ["train", *both, "--rows-per-pass", "3"], "--rows-per-pass", "--jobs")


@pytest.mark.long
def test_ctrl_c_keeps_finished_jobs_and_resume_does_the_others(folder, tmp_path) -> None:
    jobs = [{"out": f"{tmp_path}/short", "epochs": 1}, {"out": f"{tmp_path}/long", "epochs": 3000}]
    process = subprocess.Popen(
        [sys.executable, "-m", "reftune", *command(folder, lines(*jobs))],
        stderr=subprocess.PIPE,
        text=True,
    )
    finished, deadline = tmp_path / "short" / "adapter_config.json", time.monotonic() + 120
    while time.monotonic() < deadline and not finished.exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted (1 of 2 jobs are finished)" in err.splitlines()[-1]
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "long" / "adapter_config.json").exists()
    jobs[1]["epochs"] = 1  # another training: what is in the folder is not thrown away
    assert main(command(folder, lines(*jobs), "--resume")) == 2
    assert main(command(folder, lines(jobs[0]), "--resume")) == 0
