"""Texts and labels of one's own, or GLUE's: read, trained on, chosen by and scored."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reftune.cli import main
from reftune.cli.evaluate import TASK_NAMES
from reftune.experiments.experiment import load_experiment
from reftune.experiments.running import run_experiment
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.tasks import TASKS
from reftune.tasks.halves import halves
from tests.tiny_classifiers import rows, save_roberta, write_rows

REFT = {"r": 2, "positions": "f3"}
TRAINING = {"epochs": 2, "lr": 1e-2, "batch_size": 8, "save_steps": 2, "max_length": 32}


@pytest.fixture(scope="session")
def roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    save_roberta(folder)
    return folder


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)


@pytest.fixture
def place(tmp_path, roberta):
    data = tmp_path / "data"
    for name, count, shift in (("train", 32, 0), ("validation", 12, 100), ("test", 10, 200)):
        write_rows(data / f"{name}.jsonl", rows(count, shift))
    write_recipe(tmp_path, roberta)
    return tmp_path


def write_recipe(place, roberta, **changes) -> None:
    recipe = {"task": "classification", "model": str(roberta), "dtype": "float32", "seeds": [1]}
    recipe |= {"adapter": REFT, "training": TRAINING, **changes}
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def run(place, *more: str) -> int:
    given = ["run", str(place / "recipe.yaml"), "--data", str(place / "data")]
    return main([*given, "--out", str(place / "out"), *more])


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def result(place) -> dict:
    return json.loads((place / "out" / "result.json").read_text())


def test_a_run_chooses_the_epoch_on_validation_and_scores_the_test_set(place, capsys):
    assert run(place) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("test", "accuracy", "seed 1", "mean"))
    (seed,) = result(place)["seeds"]
    assert seed["trainable"] == 2 * (2 * 16 * 2 + 2)
    assert seed["head"] == 16 * 16 + 16 + 16 * 2 + 2
    assert seed["memory_bytes"] > 0
    by_epoch = seed["validation_by_epoch"]
    assert len(by_epoch) == 2
    assert seed["validation"] == max(by_epoch)
    assert seed["best_epoch"] == 1 + by_epoch.index(max(by_epoch))
    score = seed["scores"]["test"]
    lines = lines_of(place / "out/seed-1/answers/test.jsonl")
    assert [line["answer"] for line in lines] == [row["label"] for row in rows(10, 200)]
    right = sum(line["found"] == line["answer"] for line in lines)
    assert (score["metric"], score["total"], score["leaked"]) == ("accuracy", 10, False)
    assert score["value"] == right / 10
    assert set(result(place)["sha256"]) == {"train", "validation", "test"}
    assert result(place)["mean"]["test"] == {"mean": score["value"], "deviation": None}
    left = {path.name for path in (place / "out" / "seed-1").iterdir()}
    expected = {"adapter", "answers", "training.json", "training.jsonl", "validation.json"}
    expected.add("scores.json")
    assert left == expected
    again = result(place)["seeds"]
    (place / "out" / "result.json").unlink()  # as if it had been killed before the end
    assert run(place) == 0
    assert result(place)["seeds"][0]["scores"] == again[0]["scores"]


def test_the_task_is_learnt_and_the_best_epoch_is_what_is_kept(place, roberta):
    # So many epochs at such a rate that the later ones are no better than the first.
    training = {**TRAINING, "epochs": 8, "lr": 3e-3, "save_steps": 0}
    write_recipe(place, roberta, method="full", adapter={}, training=training)
    assert run(place) == 0
    (seed,) = result(place)["seeds"]
    assert seed["scores"]["test"]["value"] == 1
    assert seed["best_epoch"] < 8
    given = ["eval", "--task", "classification", "--data", str(place / "data"), "--json"]
    given += ["--adapter", str(place / "out/seed-1/adapter"), "--out", str(place / "scores")]
    assert main([*given, "--tests", "validation"]) == 0


@pytest.mark.long
def test_an_interrupted_training_goes_on_to_the_same_weights(place, monkeypatch):
    """After step 3 of 8, within an epoch; after 4, at the end of one, before it is scored."""
    experiment = load_experiment(place / "recipe.yaml")
    whole = run_experiment(experiment, place / "data", place / "whole")
    usual = StopAtStepEnd.on_step_end
    for step in (3, 4):

        def stop(self, args, state, control, step=step, **kwargs):
            self.asked = state.global_step == step
            usual(self, args, state, control, **kwargs)

        out = place / f"broken-{step}"
        with monkeypatch.context() as broken:
            broken.setattr(StopAtStepEnd, "on_step_end", stop)
            with pytest.raises(TrainingInterrupted):
                run_experiment(experiment, place / "data", out)
        assert not (out / "result.json").exists()
        again = run_experiment(experiment, place / "data", out)
        for name in ("scores", "validation_by_epoch", "best_epoch", "loss", "steps"):
            assert again["seeds"][0][name] == whole["seeds"][0][name]
        one, two = (
            load_file(folder / "seed-1/adapter/adapter_model.safetensors")
            for folder in (place / "whole", out)
        )
        assert all(torch.equal(one[name], two[name]) for name in one)
        steps = [line["step"] for line in lines_of(out / "seed-1/training.jsonl")]
        assert steps == [*range(1, 9)]


def test_glue_is_scored_on_one_half_of_validation_per_seed(place, roberta):
    shutil.rmtree(place / "data")
    write = [{"sentence": r["text"], "label": int(r["label"] == "positive")} for r in rows(40)]
    write_rows(place / "data" / "CoLA" / "train.jsonl", write[:20])
    write_rows(place / "data" / "CoLA" / "dev.jsonl", write[20:])
    write_recipe(place, roberta, task="cola", seeds=[1, 2])
    assert run(place) == 0
    names = ("unacceptable", "acceptable")
    for seed in result(place)["seeds"]:
        answers = place / "out" / f"seed-{seed['seed']}" / "answers" / "cola.jsonl"
        _, scored = halves(20, seed["seed"])
        found = [line["answer"] for line in lines_of(answers)]
        assert found == [names[write[20 + row]["label"]] for row in scored]
        score = seed["scores"]["cola"]
        assert (score["metric"], score["total"], score["interval"]) == ("matthews", 10, None)
    heads = [
        load_file(place / "out" / f"seed-{seed}" / "adapter" / "adapter_model.safetensors")
        for seed in (1, 2)
    ]
    dense = next(name for name in heads[0] if name.endswith("dense.weight"))
    assert not torch.allclose(heads[0][dense], heads[1][dense], atol=0.1)


def test_numbers_are_predicted_without_a_validation_set(place, roberta):
    for name, shift in (("train", 0), ("test", 50)):
        given = [{"text": r["text"], "label": 1.5 * i} for i, r in enumerate(rows(10, shift))]
        write_rows(place / "data" / f"{name}.jsonl", [*given, {"text": "x", "label": 2}])
    (place / "data" / "validation.jsonl").unlink()
    write_recipe(place, roberta, dtype="bfloat16", metric="pearson")
    assert run(place) == 0
    (seed,) = result(place)["seeds"]
    assert (seed["best_epoch"], seed["validation"]) == (None, None)
    assert seed["scores"]["test"]["metric"] == "pearson"
    assert -1 <= seed["scores"]["test"]["value"] <= 1


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("lora", {"r": 2}),
        ("bitfit", {}),
        ("probe", {}),
        ("prompt-tuning", {"num_virtual_tokens": 3}),
        ("reft+lora", {"reft": {"r": 1}, "lora": {"r": 1}}),
    ],
)
def test_every_method_runs_goes_on_and_is_scored_again(
    place, roberta, monkeypatch, capsys, method, adapter
):
    write_recipe(place, roberta, method=method, adapter=adapter)

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 5:
            control.should_save = control.should_training_stop = self.asked = True

    with monkeypatch.context() as broken:
        broken.setattr(StopAtStepEnd, "on_step_end", stop)
        assert run(place) == 130
    assert run(place) == 0
    (seed,) = result(place)["seeds"]
    assert (seed["trainable"] > 0) == (method != "probe")
    assert seed["head"] == 306
    given = ["eval", "--task", "classification", "--data", str(place / "data"), "--json"]
    given += ["--adapter", str(place / "out/seed-1/adapter"), "--out", str(place / "scores")]
    capsys.readouterr()
    assert main(given) == 0
    score = json.loads(capsys.readouterr().out)["test"]
    assert score["value"] == seed["scores"]["test"]["value"]
    answers = [(place / at / "test.jsonl").read_text() for at in ("out/seed-1/answers", "scores")]
    assert answers[0] == answers[1]


def test_an_adapter_of_classes_answers_no_questions(place, capsys):
    assert run(place) == 0
    (place / "data" / "boolq").mkdir()
    (place / "data" / "boolq" / "test.json").write_text('[{"instruction": "x?", "answer": "true"}]')
    given = ["eval", "--task", "commonsense", "--tests", "boolq", "--data", str(place / "data")]
    given += ["--out", str(place / "x"), "--adapter", str(place / "out" / "seed-1" / "adapter")]
    assert main(given) == 2
    assert "was trained for classification; expected commonsense" in capsys.readouterr().err


def test_eval_scores_a_whole_classifier_and_refuses_one_without_a_head(place, roberta, capsys):
    torch.manual_seed(0)
    names = {0: "negative", 1: "positive"}
    model = AutoModelForSequenceClassification.from_pretrained(roberta, id2label=names)
    tokenizer = AutoTokenizer.from_pretrained(roberta)
    model.save_pretrained(place / "whole")
    tokenizer.save_pretrained(place / "whole")
    given = ["eval", "--task", "classification", "--out", str(place / "scores"), "--json"]
    given += ["--data", str(place / "data" / "test.jsonl"), "--model"]
    assert main([*given, str(place / "whole")]) == 0
    score = json.loads(capsys.readouterr().out)["test"]
    right = 0
    for row in rows(10, 200):
        inputs = tokenizer(row["text"], return_tensors="pt")
        right += names[int(model.eval()(**inputs).logits.argmax())] == row["label"]
    assert score["value"] == right / 10
    assert main([*given, str(roberta)]) == 2
    assert "LABEL_0" in capsys.readouterr().err
    given[2] = "sst2"
    (place / "data" / "dev.jsonl").write_text('{"sentence": "good", "label": 1}\n' * 2)
    given[-2] = str(place / "data")
    (place / "data" / "validation.jsonl").unlink()
    assert main([*given, str(roberta)]) == 2
    assert "expected a model with a trained head" in capsys.readouterr().err


def test_the_commands_know_the_same_tasks():
    assert set(TASK_NAMES) == set(TASKS)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train.jsonl", '{"text": "a"}\n', "row 1: a row of classification with text; expected"),
        (
            "train.jsonl",
            '{"label": 1, "text": 5}\n{"label": 2, "text": "a"}\n',
            '"text" is 5 (int)',
        ),
        ("test.jsonl", '{"text": "a", "label": "so so"}\n', "the label is 'so so'"),
        ("train.csv", "text,label\na,b\n", "2 times"),
        ("test.jsonl", "", "no rows"),
        ("train.jsonl", '{"text": "a", "label": 0.5}\n', "a recipe that says metric: pearson"),
        ("validation.jsonl", "[1]", "found 1"),
    ],
)
def test_a_wrong_set_is_one_line(place, capsys, file, text, message):
    (place / "data" / file).write_text(text)
    assert run(place) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "f1"}, "metric 'f1'"),
        ({"generation": {"batch_size": 2}}, "generation"),
        ({"task": "cola", "tests": ["test"]}, "half of its validation set"),
        ({"task": "cola", "metric": "accuracy"}, "has its own"),
        ({"tests": ["train"]}, "train is the training set too"),
        ({"train": "validation"}, "validation is the training set too"),
        ({"tests": ["validation"]}, "validation is the validation set too"),
        ({"method": "prayer"}, "prayer"),
    ],
)
def test_a_wrong_recipe_is_one_line(place, roberta, capsys, changes, message):
    write_recipe(place, roberta, **changes)
    assert run(place) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
