"""The loss of held-out rows is the mean over their tokens, and a score where it can be one."""

import json
import math
from dataclasses import fields

import pytest
import torch
from datasets import Dataset
from peft import PeftModel

from reftune.cli import main
from reftune.collation import PaddingCollator
from reftune.encoding import IGNORED
from reftune.experiments.experiment import Experiment
from reftune.experiments.held_out import held_out_loss, references
from reftune.experiments.running import run_experiment
from reftune.recipe import TrainingRecipe, encode_for
from reftune.tasks import LANGUAGE, TASKS, Judged, Task
from tests.tiny_text import byte_level, tiny_llama

TOKENIZER = byte_level()
ROWS = [{"instruction": f"Count to {i}.", "output": "The fox " * (i % 4 + 1)} for i in range(7)]
INSTRUCTIONS = LANGUAGE["instructions"]
PARTS = {one.name: getattr(INSTRUCTIONS, one.name) for one in fields(INSTRUCTIONS)}


def encoded(rows: list[dict], max_length: int = 512) -> Dataset:
    examples = Dataset.from_list([INSTRUCTIONS.example(row, "a row") for row in rows])
    recipe = TrainingRecipe(template="plain", max_length=max_length)
    return encode_for(tiny_llama(TOKENIZER), TOKENIZER, examples, recipe)[0]


def loss_by_hand(model, rows: Dataset) -> tuple[float, int]:
    """The mean over labelled tokens, row by row and without padding."""
    losses: list[torch.Tensor] = []
    for row in rows.to_list():
        labels = torch.tensor(row["labels"])[1:]
        # The labels say to an adapter where the prompt ends.
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
        with torch.no_grad():
            logits = model(**inputs).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, labels.clamp(min=0), reduction="none")
        losses.append(each[labels != IGNORED])
    return float(torch.cat(losses).mean()), sum(map(len, losses))


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "held").mkdir(parents=True)
    (folder / "small.json").write_text(json.dumps(ROWS))
    (folder / "held" / "test.json").write_text(json.dumps(ROWS[:5]))
    model = tmp_path / "model"
    tiny_llama(TOKENIZER).save_pretrained(model)
    TOKENIZER.save_pretrained(model)
    return folder


def experiment(data, task: str, tests: tuple[str, ...] = ("held",)) -> Experiment:
    return Experiment(
        task=task,
        model=str(data.parent / "model"),
        adapter={"r": 2, "layers": [0], "positions": "l1"},
        training={"epochs": 2, "lr": 1e-2, "batch_size": 4, "save_steps": 0},
        generation={"max_new_tokens": 3},
        seeds=(1,),
        dtype="float32",
        train="small",
        tests=tests,
    )


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_mean_over_tokens_whatever_the_batches(size, training):
    model, rows = tiny_llama(TOKENIZER).train(training), encoded(ROWS)
    found = held_out_loss(model, PaddingCollator(TOKENIZER), rows, size)
    value, tokens = loss_by_hand(model, rows)
    assert found.value == pytest.approx(value, abs=1e-5)
    assert found.tokens == tokens
    assert model.training == training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_is_no_number_says_so():
    model = tiny_llama(TOKENIZER)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.inf)
    assert math.isnan(held_out_loss(model, PaddingCollator(TOKENIZER), encoded(ROWS), 4).value)


def test_there_are_references_where_every_row_has_one_and_no_judge_takes_their_place():
    found = references(INSTRUCTIONS, ROWS, "a set")
    assert [row["completion"] for row in found] == [row["output"] for row in ROWS]
    assert references(INSTRUCTIONS, [*ROWS, {"instruction": "Say hi."}], "a set") == []
    assert references(INSTRUCTIONS, [*ROWS, {**ROWS[0], "output": " "}], "a set") == []
    judged = {"instruction": "is 2 even?", "answer": "true"}
    assert references(LANGUAGE["commonsense"], [judged], "a set") == []
    both = Task(**{**PARTS, "loss": True, "judge": lambda text, row: Judged(text, True)})
    assert references(both, ROWS, "a set") == found


def test_a_run_of_a_task_without_judge_has_the_loss_as_its_score(data, tmp_path):
    result = run_experiment(experiment(data, "instructions"), data, tmp_path / "out")
    folder = tmp_path / "out" / "seed-1"
    model = PeftModel.from_pretrained(tiny_llama(TOKENIZER), str(folder / "adapter")).eval()
    value, tokens = loss_by_hand(model, encoded(ROWS[:5]))
    score = result["seeds"][0]["scores"]["held"]
    assert score.pop("value") == pytest.approx(value, abs=1e-4)
    assert score == {"metric": "loss", "total": tokens, "interval": None, "leaked": False}
    assert result["mean"]["held"]["mean"] == pytest.approx(value, abs=1e-4)
    # Its answers are written for a judge all the same.
    outputs = json.loads((folder / "answers" / "held.alpaca_eval.json").read_text())
    assert [one["instruction"] for one in outputs] == [row["instruction"] for row in ROWS[:5]]


def test_a_task_may_have_both_scores(data, tmp_path, monkeypatch):
    rows = [{**row, "answer": ""} for row in ROWS]
    (data / "held" / "test.json").write_text(json.dumps(rows))
    parts = {**PARTS, "judge": lambda text, row: Judged(text, row["instruction"] < "Count to 3.")}
    monkeypatch.setitem(TASKS, "both", Task(**{**parts, "loss": True, "name": "both"}))
    result = run_experiment(experiment(data, "both"), data, tmp_path / "out")
    scores = result["seeds"][0]["scores"]
    assert {name: one["metric"] for name, one in scores.items()} == {
        "held": "accuracy",
        "held loss": "loss",
    }
    assert scores["held"]["value"] == pytest.approx(3 / 7)
    assert not (tmp_path / "out/seed-1/answers/held.alpaca_eval.json").exists()


def test_a_loss_stands_on_a_report(data, tmp_path):
    run_experiment(experiment(data, "instructions"), data, tmp_path / "out")
    assert main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "page.html")]) == 0
    assert "loss, nats" in (tmp_path / "page.html").read_text(encoding="utf-8")
