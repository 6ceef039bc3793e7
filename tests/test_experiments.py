"""Recipes are data that mean what the paper says, and a run of one can be interrupted."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from reftune.cli import main
from reftune.config import ReftConfig
from reftune.experiments.experiment import load_experiment, recipe_names
from reftune.experiments.loading import Base
from reftune.experiments.running import run_experiment
from reftune.interventions import options
from reftune.tasks import LANGUAGE
from tests.tiny_text import byte_level, tiny_llama

# Width and layers of the models that the recipes are for.
SHAPES = {"yahma/llama-7b-hf": (4096, 32), "meta-llama/Llama-2-7b-hf": (4096, 32)}
RECIPE = """
task: commonsense
model: {model}
dtype: float32
adapter: {{r: 2, layers: [0], positions: l1}}
training: {{epochs: 2, lr: 1.0e-2, batch_size: 4, save_steps: 0}}
generation: {{max_new_tokens: 4}}
seeds: [1, 2]
train: small
tests: [one, two]
"""


def rows(count: int) -> list[dict]:
    answers = ["true", "false"]
    return [
        {"instruction": f"is {i} even?", "input": "", "output": "", "answer": answers[i % 2]}
        for i in range(count)
    ]


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "small.json").write_text(json.dumps(rows(10)))
    for name in ("one", "two"):
        (data / name).mkdir()
        (data / name / "test.json").write_text(json.dumps(rows(6)))
    model = tmp_path / "model"
    tiny_llama(byte_level()).save_pretrained(model)
    byte_level().save_pretrained(model)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=model))
    return tmp_path


def run(folder, *more: str) -> int:
    given = ["run", str(folder / "recipe.yaml"), "--data", str(folder / "data")]
    return main([*given, "--out", str(folder / "out"), *more])


LANGUAGE_RECIPES = [name for name in recipe_names() if load_experiment(name).task in LANGUAGE]


def test_every_recipe_says_where_it_is_from():
    assert {"commonsense", "arithmetic", "ultrafeedback"} <= set(LANGUAGE_RECIPES)
    assert all(load_experiment(name).source for name in recipe_names())


@pytest.mark.parametrize("name", LANGUAGE_RECIPES)
def test_a_recipe_trains_as_many_numbers_as_the_paper(name):
    experiment = load_experiment(name)
    config = ReftConfig(**experiment.adapter)
    width, layers = SHAPES[experiment.model]
    sites = len(config.layer_list) or layers
    edits = sites * (1 if config.tied else 2)
    assert {"rank", "width"} <= options(config.intervention)
    assert experiment.trainable == edits * (2 * width * config.r + config.r)


def test_another_model_may_train_another_number():
    assert load_experiment("commonsense", model="yahma/llama-7b-hf").trainable == 2_097_408
    assert load_experiment("commonsense", model="tiny-chat").trainable is None
    with pytest.raises(ValueError, match="method 'prayer'"):
        load_experiment("commonsense", method="prayer")


def test_a_run_says_everything_and_is_not_run_again(folder, capsys):
    assert run(folder) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("one", "two", "average", "seed 1", "seed 2", "mean"))
    result = json.loads((folder / "out" / "result.json").read_text())
    assert [seed["seed"] for seed in result["seeds"]] == [1, 2]
    assert set(result["sha256"]) == {"train", "one", "two"}
    assert result["environment"]["torch"] == torch.__version__
    assert result["seeds"][0]["trainable"] == 2 * 16 * 2 + 2
    one = result["seeds"][0]["scores"]["one"]
    assert (one["total"], one["metric"], one["leaked"]) == (6, "accuracy", False)
    assert one["interval"][0] <= one["value"] <= one["interval"][1]
    assert result["seeds"][0]["head"] == 0
    assert result["seeds"][0]["memory_bytes"] > 0
    answers = folder / "out" / "seed-1" / "answers" / "one.jsonl"
    scored = answers.with_suffix(".scored.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["right"] for line in scored) == 6 * one["value"]
    log = folder / "out/seed-1/training.jsonl"
    before = answers.stat().st_mtime_ns, log.read_text()
    written = (folder / "out" / "result.json").stat().st_mtime_ns
    assert run(folder) == 0
    assert (folder / "out" / "result.json").stat().st_mtime_ns == written
    (folder / "out" / "result.json").unlink()  # as if it had been killed before the end
    assert run(folder) == 0
    after = answers.stat().st_mtime_ns, log.read_text()
    assert after == before
    again = json.loads((folder / "out" / "result.json").read_text())
    assert again["mean"] == result["mean"]


@pytest.mark.long
def test_an_interrupted_run_goes_on_to_the_same_scores(folder, monkeypatch):
    experiment = load_experiment(folder / "recipe.yaml")
    given = tiny_llama(byte_level())
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    whole = run_experiment(
        experiment, folder / "data", folder / "whole", load=lambda seed: Base(given, byte_level())
    )
    after = given.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("reftune.experiments.language_scores.score_set", killed)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment, folder / "data", folder / "broken")
    assert not (folder / "broken" / "result.json").exists()
    again = run_experiment(experiment, folder / "data", folder / "broken")
    assert again["mean"] == whole["mean"]


@pytest.mark.parametrize("method", ["reft", "full"])
@pytest.mark.parametrize("where", ["fitting.run_to_end", "language_scores.score_set"])
def test_a_model_of_the_callers_is_as_it_was_whatever_ends_a_run(
    folder, monkeypatch, method, where
):
    of = {"adapter": {}} if method == "full" else {}
    experiment = replace(load_experiment(folder / "recipe.yaml"), method=method, **of)
    given = tiny_llama(byte_level())
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    grads = {name: one.requires_grad for name, one in given.named_parameters()}

    def broken(*args, **kwargs):
        raise MemoryError("none left")

    monkeypatch.setattr(f"reftune.experiments.{where}", broken)
    with pytest.raises(MemoryError):
        run_experiment(
            experiment, folder / "data", folder / "out", load=lambda _: Base(given, byte_level())
        )
    assert {name: one.requires_grad for name, one in given.named_parameters()} == grads
    assert before.keys() == given.state_dict().keys()
    assert all(torch.equal(before[name], one) for name, one in given.state_dict().items())


@pytest.mark.parametrize(
    ("method", "adapter"),
    [("lora", "{r: 2}"), ("ln-tuning", "{}"), ("full", "{}"), ("prefix-tuning", "{}")],
)
def test_a_language_model_is_finetuned_by_any_method(folder, capsys, method, adapter):
    file = folder / "recipe.yaml"
    text = file.read_text().replace("{r: 2, layers: [0], positions: l1}", adapter)
    file.write_text(text.replace("seeds: [1, 2]", f"seeds: [1]\nmethod: {method}"))
    assert run(folder, "--tests", "one") == 0
    (seed,) = json.loads((folder / "out" / "result.json").read_text())["seeds"]
    assert seed["trainable"] > 0
    capsys.readouterr()
    given = ["eval", "--task", "commonsense", "--data", str(folder / "data"), "--tests", "one"]
    given += ["--adapter", str(folder / "out/seed-1/adapter"), "--max-new-tokens", "4", "--json"]
    assert main([*given, "--dtype", "float32", "--out", str(folder / "scores")]) == 0
    assert json.loads(capsys.readouterr().out)["one"]["value"] == seed["scores"]["one"]["value"]
    one, two = (
        (folder / place / "one.jsonl").read_text() for place in ("out/seed-1/answers", "scores")
    )
    assert one == two


def test_a_number_that_the_recipe_does_not_say_is_refused(folder, capsys):
    file = folder / "recipe.yaml"
    file.write_text(file.read_text() + "trainable: 67\n")
    assert run(folder) == 2
    assert "66 numbers are trained: expected 67" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("commonsense", "astrology"), "task 'astrology'"),
        (("r: 2", "rank: 2"), "unknown option rank: expected some of"),
        (("seeds: [1, 2]", "seeds: [1, 1]"), "seeds"),
        (("epochs: 2", "epochs: 0"), "epochs 0"),
        (("epochs: 2", "epochs: 2, seed: 3"), "seed is not for a recipe"),
        (("train: small", "train: missing"), "no train set missing"),
        (("task: commonsense", "- a\n- b"), "recipe.yaml"),
    ],
)
def test_a_wrong_recipe_is_one_line(folder, capsys, change, message):
    file = folder / "recipe.yaml"
    file.write_text(file.read_text().replace(*change))
    assert run(folder) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()


def test_another_experiment_in_the_folder_is_refused(folder, capsys):
    assert run(folder, "--seeds", "1", "--tests", "one") == 0
    assert run(folder, "--seeds", "2", "--tests", "one") == 2
    assert "another experiment (experiment.seeds [1], not [2])" in capsys.readouterr().err
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 2", "epochs: 3"))
    assert run(folder, "--seeds", "1", "--tests", "one") == 2
    assert "(experiment.training.epochs 2, not 3)" in capsys.readouterr().err


@pytest.mark.parametrize("tests", ["", "one,", " "])
def test_a_set_without_a_name_is_refused(folder, capsys, tests):
    """Not taken for all of the recipe's."""
    with pytest.raises(SystemExit) as leaving:  # argparse's way
        run(folder, "--tests", tests)
    assert leaving.value.code == 2
    assert f'--tests: "{tests}": expected names of sets' in capsys.readouterr().err


def test_eval_scores_a_model_with_an_adapter_of_any_method(folder, capsys):
    lora = get_peft_model(tiny_llama(byte_level()), LoraConfig(task_type="CAUSAL_LM", r=2))
    lora.save_pretrained(folder / "lora")
    given = ["eval", "--task", "commonsense", "--data", str(folder / "data"), "--tests", "one"]
    given += ["--model", str(folder / "model"), "--json"]
    for name, more in (("base", []), ("lora", ["--adapter", str(folder / "lora")])):
        assert main([*given, "--out", str(folder / name), *more]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert scores["one"]["total"] == 6
        assert scores["one"]["value"] == 0
    assert main([*given, "--out", str(folder / "x"), "--tests", "none"]) == 2
    assert "no test set none" in capsys.readouterr().err


def test_answers_to_instructions_are_written_as_alpaca_eval_reads_them(folder):
    (folder / "data" / "alpaca_eval.json").write_text(json.dumps([{"instruction": "Say hi."}]))
    (folder / "data" / "small.json").write_text(
        json.dumps([{"instruction": "Say hi.", "input": "", "output": "hi"}] * 4)
    )
    text = (folder / "recipe.yaml").read_text().replace("commonsense", "instructions")
    (folder / "recipe.yaml").write_text(text.replace("[one, two]", "[alpaca_eval]"))
    assert run(folder, "--seeds", "1") == 0
    file = folder / "out" / "seed-1" / "answers" / "alpaca_eval.alpaca_eval.json"
    (one,) = json.loads(file.read_text())
    assert set(one) == {"dataset", "instruction", "output", "generator"}
    assert json.loads((folder / "out" / "result.json").read_text())["mean"] == {}
