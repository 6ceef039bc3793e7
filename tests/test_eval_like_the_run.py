"""`reftune eval` scores what a run trained as the run did, unless it is told otherwise."""

import json

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from reftune.cli import main
from reftune.experiments.experiment import Experiment
from reftune.experiments.running import run_experiment
from tests.tiny_classifiers import save_roberta, write_rows
from tests.tiny_text import byte_level, tiny_llama

TOKENIZER = byte_level()
ROWS = [{"instruction": f"Count to {i}.", "output": " The fox" * (i % 4 + 1)} for i in range(5)]
ANSWERS = {"max_new_tokens": 12, "no_repeat_ngram": 1, "repetition_penalty": 1.3, "batch_size": 2}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder of data, and a run with settings that are nobody's defaults."""
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)
    data = tmp_path / "data"
    (data / "held").mkdir(parents=True)
    for name, rows in (("small.json", ROWS), ("held/test.json", ROWS[1:])):
        (data / name).write_text(json.dumps(rows))
    tiny_llama(TOKENIZER).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    experiment = Experiment(
        task="instructions",
        model=str(tmp_path / "model"),
        adapter={"r": 2, "layers": [0], "positions": "l1"},
        training={"epochs": 2, "lr": 1e-1, "batch_size": 4, "save_steps": 0, "max_length": 60},
        generation=ANSWERS,
        seeds=(1,),
        dtype="bfloat16",
        train="small",
        tests=("held",),
    )
    (seed,) = run_experiment(experiment, data, tmp_path / "run")["seeds"]
    return tmp_path, seed["scores"]["held"]


def evaluated(folder, capsys, *more: str, adapter: bool = True) -> tuple[dict, str, list]:
    """The score, the answers, and what is written for a judge."""
    capsys.readouterr()
    given = ["eval", "--task", "instructions", "--data", str(folder / "data"), "--tests", "held"]
    given += ["--json"]
    which = ["--adapter", str(folder / "run" / "seed-1" / "adapter")] if adapter else []
    assert main([*given, *which, "--out", str(folder / "scores"), "--overwrite", *more]) == 0
    told = json.loads(capsys.readouterr().out)["held"]
    told["value"] = pytest.approx(told["value"], abs=1e-5)  # the run has other batches
    assert told.pop("answers") == str(folder / "scores" / "held.jsonl")
    judged = json.loads((folder / "scores" / "held.alpaca_eval.json").read_text())
    return told, (folder / "scores" / "held.jsonl").read_text(), judged


def test_nothing_said_is_as_the_run_had_it(trained, capsys):
    folder, score = trained
    answers = folder / "run" / "seed-1" / "answers"
    for_a_judge = json.loads((answers / "held.alpaca_eval.json").read_text())
    expected = (score, (answers / "held.jsonl").read_text(), for_a_judge)
    assert evaluated(folder, capsys) == expected
    assert {one["generator"] for one in for_a_judge} == {"model-reft"}


@pytest.mark.parametrize(
    ("option", "of_the_score"),
    [
        (["--max-new-tokens", "3"], False),
        (["--no-repeat-ngram", "0", "--repetition-penalty", "1"], False),
        (["--max-length", "59"], True),
        (["--dtype", "float32"], True),
    ],
)
def test_every_option_takes_the_place_of_the_runs(trained, capsys, option, of_the_score):
    folder, score = trained
    answers = (folder / "run" / "seed-1" / "answers" / "held.jsonl").read_text()
    told, found, _ = evaluated(folder, capsys, *option)
    assert (told != score) == of_the_score
    assert (found != answers) or of_the_score


def test_another_task_and_another_model_have_defaults(trained, capsys):
    folder, _ = trained
    given = ["--model", str(folder / "model"), "--max-new-tokens", "4"]
    told, _, for_a_judge = evaluated(folder, capsys, *given, adapter=False)
    assert told["total"] > 0
    assert {one["generator"] for one in for_a_judge} == {"model"}
    facts = folder / "run" / "seed-1" / "adapter" / "finetuned.json"
    noted = json.loads(facts.read_text())
    facts.write_text(json.dumps({**noted, "task": "arithmetic"}))
    # 512 tokens hold every reference whole, the 60 of the run cut it.
    assert evaluated(folder, capsys, "--max-new-tokens", "4")[0]["total"] == told["total"]


def test_an_adapter_of_an_earlier_run_notes_less(trained, capsys):
    folder, score = trained
    facts = folder / "run" / "seed-1" / "adapter" / "finetuned.json"
    noted = json.loads(facts.read_text())
    kept = {name: value for name, value in noted.items() if name not in ("dtype", "generation")}
    facts.write_text(json.dumps(kept))
    told, _, _ = evaluated(folder, capsys, "--dtype", "bfloat16", "--max-new-tokens", "4")
    assert told == score


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--repetition-penalty", "0"], "repetition_penalty 0.0: expected more than 0"),
        (["--max-length", "1"], "max_length 1"),
        (["--batch-size", "0"], "--batch-size 0: expected 1 or more"),
    ],
)
def test_a_wrong_option_is_one_line(trained, capsys, option, message):
    folder, _ = trained
    given = ["eval", "--task", "instructions", "--data", str(folder / "data"), "--tests", "held"]
    given += ["--adapter", str(folder / "run/seed-1/adapter"), "--out", str(folder / "x")]
    assert main([*given, *option]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "x").exists()


@pytest.mark.parametrize("option", ["--no-repeat-ngram", "--repetition-penalty", "--max-length"])
def test_classes_have_no_answers_to_set(tmp_path, capsys, option):
    given = ["eval", "--task", "cola", "--data", str(tmp_path), "--out", str(tmp_path / "x")]
    assert main([*given, option, "2"]) == 2
    assert f"{option}: expected none, cola has classes" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classification", "sst2"])
def test_an_adapter_of_a_language_task_scores_no_classes(trained, capsys, task):
    folder, _ = trained
    row = {"text": "good", "sentence": "good", "label": "positive"}
    for name in ("test", "validation"):
        write_rows(folder / f"{name}.jsonl", [row, row])
    given = ["eval", "--task", task, "--data", str(folder), "--out", str(folder / "x")]
    assert main([*given, "--adapter", str(folder / "run/seed-1/adapter")]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f'adapter" was trained for instructions; expected {task}\n')
    assert not (folder / "x").exists()


@pytest.mark.parametrize("method", ["reft", "full"])
def test_answers_of_another_model_are_not_scored(trained, capsys, method):
    folder, _ = trained
    adapter = folder / "run" / "seed-1" / "adapter"
    if method == "full":
        experiment = Experiment(
            task="instructions",
            model=str(folder / "model"),
            method="full",
            training={"epochs": 1, "lr": 1e-3, "batch_size": 4, "save_steps": 0},
            generation=ANSWERS,
            seeds=(1,),
            dtype="bfloat16",
            train="small",
            tests=("held",),
        )
        run_experiment(experiment, folder / "data", folder / "full")
        adapter = folder / "full" / "seed-1" / "adapter"
    given = ["eval", "--task", "instructions", "--data", str(folder / "data"), "--tests", "held"]
    given += ["--out", str(folder / "scores"), "--max-new-tokens", "4"]
    base = ["--model", str(folder / "model"), "--dtype", "bfloat16"]
    base += ["--no-repeat-ngram", "1", "--repetition-penalty", "1.3", "--batch-size", "2"]
    assert main([*given, *base]) == 0
    answers = (folder / "scores" / "held.jsonl").read_text()
    assert main([*given, *base]) == 0  # the same once more
    assert main([*given, "--adapter", str(adapter)]) == 2
    error = capsys.readouterr().err
    assert "begun with another" in error
    assert {"reft": "adapter", "full": "trained"}[method] in error
    assert main([*given, *base, "--dtype", "float32"]) == 2
    assert "begun with another dtype" in capsys.readouterr().err
    assert (folder / "scores" / "held.jsonl").read_text() == answers
    assert main([*given, "--adapter", str(adapter), "--overwrite"]) == 0


@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_a_head_that_nobody_trained_is_not_scored(tmp_path, capsys, task_type):
    save_roberta(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    lora = get_peft_model(model, LoraConfig(r=1, target_modules=["query"]))
    lora.peft_config["default"].task_type = task_type
    lora.save_pretrained(tmp_path / "lora")
    write_rows(tmp_path / "dev.jsonl", [{"sentence": "good", "label": i} for i in (0, 1)])
    given = ["eval", "--task", "cola", "--data", str(tmp_path), "--out", str(tmp_path / "x")]
    given += ["--model", str(tmp_path / "model"), "--adapter"]
    assert main([*given, str(tmp_path / "lora")]) == 2
    error = capsys.readouterr().err
    assert "has no classifier.dense.bias" in error
    assert "neither has the model" in error
    config = LoraConfig(r=1, target_modules=["query"], task_type="SEQ_CLS")
    get_peft_model(lora.unload(), config).save_pretrained(tmp_path / "whole")
    assert main([*given, str(tmp_path / "whole")]) == 0
