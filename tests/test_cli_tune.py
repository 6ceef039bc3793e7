"""`reftune tune`: what it prints, writes and refuses, always through `main`."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reftune.cli import main
from reftune.cli.tune import _print
from reftune.tuning.report import Contender, TuningResult
from reftune.tuning.setting import Setting
from tests.test_cli import PAIRS, fails
from tests.tiny_text import save_tiny_model

QUICK = ["--trials", "2", "--rungs", "1", "--seeds", "2", "--batch-size", "4", "--epochs", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and data."""
    folder = tmp_path_factory.mktemp("tune")
    save_tiny_model(folder / "model", chat=True)
    (folder / "data.jsonl").write_text(PAIRS)
    return folder


def command(folder: Path, out: Path, *options: str) -> list[str]:
    names = ["--model", f"{folder}/model", "--data", f"{folder}/data.jsonl", "--out", str(out)]
    return ["tune", *names, *QUICK, *options]


def test_the_best_setting_is_told_and_can_be_trained_with(folder, tmp_path, capsys) -> None:
    out, again = tmp_path / "search", tmp_path / "again"
    held_out = ["--eval-data", f"{folder}/data.jsonl"]
    assert main(command(folder, out, *held_out)) == 0
    told, err = capsys.readouterr()
    lines = told.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["no", "default", "best", "cheapest"]
    assert "reftune: 2 of 2 trials (2 complete); best held-out loss" in err
    assert f"{out}/best" in told
    [line] = [line for line in lines if line.startswith("  reftune train ")]
    assert main([str(again) if word == "FOLDER" else word for word in line.split()[1:]]) == 0
    trained, kept = (load_file(one / "adapter_model.safetensors") for one in (again, out / "best"))
    assert trained.keys() == kept.keys()
    for name, tensor in trained.items():
        assert tensor.allclose(kept[name], atol=1e-5), name
    capsys.readouterr()
    assert main([*command(folder, out, *held_out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((out / "result.json").read_text())
    assert result["trials"] == {"complete": 2}


def test_a_default_that_diverged_is_not_recommended(capsys) -> None:
    setting = Setting()
    best, default = (Contender(setting, 0, 8, losses) for losses in ((1.0, 1.1), (math.nan, 2.0)))
    result = TuningResult(
        out=Path("x"),
        trials={"complete": 1},
        best_loss=1.0,
        base_loss=2.0,
        noise=0.1,
        best=best,
        default=default,
        cheapest=best,
    )
    args = argparse.Namespace(model=None, dtype="auto", data="d", json=False)
    _print(result, args)
    told = capsys.readouterr().out
    assert "The default diverged: take the best." in told
    assert "keep the default" not in told


def test_wrong_commands(folder, tmp_path, capsys, monkeypatch) -> None:
    out, space = tmp_path / "out", tmp_path / "space.yaml"
    space.write_text("rank: 3\n")
    for options, says in [
        (["--held-out", "0"], ["held out 0.0", "between 0 and 1"]),
        (["--held-out", "0.3"], ["2 held-out rows", "at least 4"]),
        (["--held-out", "0.01"], ["0.01 of 8 rows is 0"]),
        (["--held-out", "0.5", "--eval-data", "x"], ["--eval-data", "not allowed"]),
        (["--held-out", "0.5", "--space", f"{space}"], ["unknown name 'rank'", "layers"]),
        (["--space", "nowhere.yaml"], ['space "nowhere.yaml": no such file']),
        (["--trials", "0"], ["trials 0", "1 or more"]),
        (["--minutes", "0"], ["minutes 0.0", "more than 0"]),
        (["--lr", "1"], ["--lr"]),
        (["--epochs", "0"], ["epochs 0.0", "more than 0"]),
        (["--data", "nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
        (["--out", f"{folder}"], ["is not empty"]),
        (["--out", f"{space}"], ["is a file"]),
    ]:
        fails(capsys, command(folder, out, *options), *says)
        assert not out.exists(), options
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fails(capsys, command(folder, out), "optuna", "reftune[tune]")


@pytest.mark.long
def test_ctrl_c_ends_a_search_after_the_pass(folder, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    given = command(folder, out, "--held-out", "0.5", "--epochs", "6")
    process = subprocess.Popen(
        [sys.executable, "-m", "reftune", *given[:-1], "3000"], stderr=subprocess.PIPE, text=True
    )
    begun, deadline = out / "trials" / "0000" / "rung-0" / "recipe.json", time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and not begun.exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "interrupted (0 of 2 trials have ended)" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (out / "best").exists()
    fails(capsys, given, "another recipe: epochs 3000.0, not 6.0")  # what is there is not lost
