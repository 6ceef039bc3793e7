"""The command-line tool: what it prints, writes and refuses, always through `main`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from reftune.cli import COMMANDS, main
from reftune.cli.console import table
from reftune.cli.train import parse_layers
from tests.tiny_text import byte_level, save_tiny_model, tiny_llama

PAIRS = "".join(
    json.dumps({"prompt": f"What is {i}?", "completion": "fox " * (i % 3 + 1)}) + "\n"
    for i in range(8)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, data, and an adapter trained by the tool itself."""
    folder = tmp_path_factory.mktemp("cli")
    save_tiny_model(folder / "model", chat=True)
    (folder / "data.jsonl").write_text(PAIRS)
    (folder / "prompts.txt").write_text("What is 1?\nWhat is 2?\nWhat is 3?\n")
    assert main(train_command(folder, "adapter")) == 0
    return folder


def train_command(folder: Path, out: str, *options: str) -> list[str]:
    names = ["--model", f"{folder}/model", "--data", f"{folder}/data.jsonl"]
    recipe = ["--epochs", "2", "--batch-size", "4", "--layers", "0-1", "--positions", "f1+l1"]
    return ["train", *names, "--out", f"{folder}/{out}", *recipe, *options]


def fails(capsys: pytest.CaptureFixture[str], command: list[str], *says: str) -> None:
    """Run a wrong command: exit code 2 and one line that says all of ``says``."""
    capsys.readouterr()
    try:
        code = main(command)
    except SystemExit as leaving:  # argparse's way
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("reftune: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for text in says:
        assert text in err


def test_training_prints_a_table_and_json_the_same(folder, capsys) -> None:
    assert main(train_command(folder, "again", "--json")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["trainable_parameters"] == 2 * (2 * 4 * 16 + 4)
    assert (facts["rows"], facts["rows_dropped"], facts["steps"]) == (8, 0, 4)
    assert facts["size_bytes"] > 500
    lines = Path(facts["log"]).read_text().splitlines()
    assert json.loads(lines[-1])["loss"] == facts["loss"]
    assert main(train_command(folder, "again", "--overwrite")) == 0
    shown = capsys.readouterr().out
    assert "trainable parameters  264" in shown


def test_the_options_reach_the_adapter(folder, capsys) -> None:
    options = ["--untied", "--r", "2", "--intervention", "noreft", "--decode", "3"]
    assert main(train_command(folder, "other", *options, "--layers=-1", "--dropout", "0.1")) == 0
    capsys.readouterr()
    assert main(["info", f"{folder}/other", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    named = {
        "r": 2,
        "intervention": "noreft",
        "layers": [1],
        "positions": "f1+l1",
        "tied": False,
        "decode": 3,
        "dropout": 0.1,
        "base_model": f"{folder}/model",
        "parameters": 2 * (2 * 2 * 16 + 2),
        "hidden_size": 16,
    }
    assert {name: facts[name] for name in named} == named


def test_info_counts_what_is_on_disk(folder, capsys) -> None:
    assert main(["info", f"{folder}/adapter"]) == 0
    shown = capsys.readouterr().out
    assert "loreft" in shown
    assert "parameters    264" in shown
    assert "size bytes" not in shown or "kB" in shown


def test_info_does_not_load_the_base_model(folder, capsys, monkeypatch) -> None:
    import torch

    def refuse(*args, **kwargs):
        raise AssertionError("a model was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    assert main(["info", f"{folder}/adapter"]) == 0
    assert "264" in capsys.readouterr().out


def test_generate_writes_a_file_and_goes_on_with_it(folder, capsys) -> None:
    out = folder / "answers.jsonl"
    command = ["generate", "--adapter", f"{folder}/adapter", "--data", f"{folder}/prompts.txt"]
    command += ["--out", str(out), "--max-new-tokens", "4", "--batch-size", "1"]
    assert main(command) == 0
    whole = out.read_bytes()
    assert [json.loads(line)["prompt"] for line in whole.splitlines()] == [
        "What is 1?",
        "What is 2?",
        "What is 3?",
    ]
    out.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main(command) == 0
    assert out.read_bytes() == whole
    assert "1 of 3 rows were in" in capsys.readouterr().err
    fails(capsys, command, "answers.jsonl", "all 3 rows", "--overwrite")


def test_generate_prints_json_lines_without_a_file(folder, capsys) -> None:
    model = ["--model", f"{folder}/model", "--max-new-tokens", "3"]
    assert main(["generate", *model, "--prompt", "fox", "--prompt", "dog"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["prompt"] for line in lines] == ["fox", "dog"]


def talk(folder: Path, text: str, *options: str) -> str:
    command = [sys.executable, "-m", "reftune", "chat", "--max-new-tokens", "6", *options]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@pytest.mark.long
def test_chat_talks_over_a_pipe(folder) -> None:
    adapter = ["--adapter", f"{folder}/adapter"]
    text = "fox\n/base\n\n/help\n/what\n/reset\n/base\nfox\n/quit\nnever\n"
    lines = talk(folder, text, *adapter).splitlines()
    compared = next(i for i, line in enumerate(lines) if line.startswith("adapter: "))
    first = "\n".join(lines[:compared])
    assert lines[compared].removeprefix("adapter: ") in first
    assert any(line.startswith("base: ") for line in lines)
    assert any("/quit    leave" in line for line in lines)
    assert '"/what" is no command; /help shows them' in lines
    forgotten = lines.index("(the conversation is forgotten)")
    assert lines[forgotten + 1] == "(there is no prompt yet)"
    assert "\n".join(lines[forgotten + 2 :]) == first  # the same prompt with no past


@pytest.mark.long
def test_chat_without_an_adapter_has_nothing_to_compare(folder) -> None:
    shown = talk(folder, "fox\n/base\n", "--model", f"{folder}/model")
    assert shown.splitlines()[-1] == "(this is the base model: there is no adapter)"


def test_help_of_every_command_has_examples(capsys) -> None:
    for command in ([], *([name] for name in COMMANDS)):
        with pytest.raises(SystemExit) as leaving:
            main([*command, "--help"])
        assert leaving.value.code == 0
        shown = capsys.readouterr().out
        assert shown.count("\n  reftune ") >= 3
        assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
        (["--data", "{folder}/wrong.jsonl"], ["wrong.jsonl, line 1", "answer, question"]),
        (["--data", "{folder}/empty.jsonl"], ["empty.jsonl", "no rows"]),
        (["--data", "{folder}/blank.jsonl"], ["no row is left", "1 without completion"]),
        (["--model", "{folder}/none"], ["{folder}/none", "no such folder"]),
        (["--model", "{folder}"], ["{folder}", "config.json"]),
        (["--model", "{folder}/bad_model"], ["bad_model", "cannot be loaded"]),
        (["--positions", "f7-l7"], ["f7-l7", "f7+l7"]),
        (["--layers", "40"], ["40", "-2 to 1"]),
        (["--layers", "3;x"], ['layers "3;x"', "3;9;18;24"]),
        (["--layers", "5-3"], ["5-3", "empty"]),
        (["--intervention", "lorefd"], ["lorefd", "loreft"]),
        (["--r", "17"], ["17", "16"]),
        (["--r", "four"], ["--r", "four"]),
        (["--component", "elsewhere"], ["elsewhere"]),
        (["--decode", "some"], ["some"]),
        (["--lr", "0"], ["lr 0.0", "more than 0"]),
        (["--max-length", "1"], ["max_length 1", "at least 2"]),
        (["--out", "{folder}/adapter"], ["finished adapter", "--overwrite"]),
        (["--out", "{folder}/adapter", "--resume"], ["nothing to resume"]),
        (["--out", "{folder}/new", "--resume"], ["no interrupted training"]),
        (["--out", "{folder}"], ["not empty"]),
        (["--resume", "--overwrite"], ["--overwrite", "not allowed with"]),
        (["--epoch", "x"], ["--epoch", "x"]),
    ],
)
def test_wrong_training_commands(folder, capsys, options, says) -> None:
    (folder / "wrong.jsonl").write_text('{"question": "x", "answer": "y"}\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "blank.jsonl").write_text('{"prompt": "x", "completion": ""}\n')
    (folder / "bad_model").mkdir(exist_ok=True)
    (folder / "bad_model" / "config.json").write_text('{"model_type": "no such type"}')
    options = [text.format(folder=folder) for text in options]
    says = [text.format(folder=folder) for text in says]
    fails(capsys, train_command(folder, "fresh", *options), *says)
    assert not (folder / "fresh" / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([], ["COMMAND"]),
        (["trane"], ["trane", "train"]),
        (["info"], ["ADAPTER"]),
        (["info", "nowhere"], ["nowhere", "no such folder"]),
        (["info", "{folder}/model"], ["model", "adapter_config.json"]),
        (["info", "{folder}/lora"], ["LORA", "REFTUNE"]),
        (["info", "{folder}/torn"], ["torn", "bytes; expected"]),
        (["generate", "--prompt", "x", "--adapter", "{folder}/nowhere"], ["no such folder"]),
        (["generate"], ["--data", "--prompt"]),
        (["generate", "--prompt", "x", "--model", "{folder}/wide"], ["hidden", "16", "24"]),
        (["generate", "--prompt", "x", "--model", "{folder}/deep"], ["layers", "2", "3"]),
        (["generate", "--prompt", " ", "--model", "{folder}/model"], ["row 1", "empty"]),
        (["generate", "--prompt", "x", "--max-new-tokens", "0"], ["max_new_tokens 0"]),
        (["generate", "--prompt", "x", "--max-new-tokens", "999"], ["999", "256 positions"]),
        (["generate", "--prompt", "x", "--out", "{folder}/no/x.jsonl"], ["no/x.jsonl"]),
        (["generate", "--data", "{folder}/data.jsonl", "--out", "{folder}/data.jsonl"], ["is the"]),
        (
            ["generate", "--data", "{folder}/data.jsonl", "--out", "{folder}/prompts.txt"],
            ["line 1"],
        ),
        (["demo", "--out", "{folder}/adapter"], ["finished adapter", "--overwrite"]),
    ],
)
def test_other_wrong_commands(folder, capsys, command, says) -> None:
    if not (folder / "torn").exists():
        get_peft_model(tiny_llama(byte_level()), LoraConfig()).save_pretrained(folder / "lora")
        (folder / "torn").mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            data = (folder / "adapter" / name).read_bytes()
            (folder / "torn" / name).write_bytes(data if name.endswith("json") else data[:-10])
        save_tiny_model(folder / "wide", chat=True, hidden_size=24)
        save_tiny_model(folder / "deep", chat=True, num_hidden_layers=3)
    command = [text.format(folder=folder) for text in command]
    if command[:1] == ["generate"] and "--adapter" not in command:
        command += ["--adapter", f"{folder}/adapter"]
    fails(capsys, command, *says)


def test_internal_errors_are_one_line_unless_debugging(folder, capsys, monkeypatch) -> None:
    import reftune.cli.info

    def explode(path):
        raise RuntimeError("boom\nboom")

    monkeypatch.setattr(reftune.cli.info, "describe", explode)
    assert main(["info", f"{folder}/adapter"]) == 1
    err = capsys.readouterr().err
    assert err == "reftune: internal error: RuntimeError: boom boom (--debug shows where)\n"
    with pytest.raises(RuntimeError):
        main(["info", f"{folder}/adapter", "--debug"])


@pytest.mark.long
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(folder) -> None:
    command = train_command(folder, "long", "--epochs", "3000", "--save-steps", "100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "reftune", *command], stderr=subprocess.PIPE, text=True
    )
    log, deadline = folder / "long" / "training.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 500):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert len(list((folder / "long" / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("all", "all"),
        ("3", [3]),
        ("-1", [-1]),
        ("3;9;18;24", [3, 9, 18, 24]),
        ("3,9", [3, 9]),
        ("0-5", [0, 1, 2, 3, 4, 5]),
        ("0-2, 7;-1", [0, 1, 2, 7, -1]),
    ],
)
def test_layers_are_read(text: str, layers: list[int] | str) -> None:
    assert parse_layers(text) == layers


def test_tables_align_wide_characters() -> None:
    rows = [["a", "🔥", 1], ["bcd", "xyz", 22]]
    assert table(rows).splitlines() == ["a    🔥   1", "bcd  xyz  22"]
    assert table(rows, ["one", "two", "n"]).splitlines()[:2] == ["one  two  n", "───  ───  ──"]
