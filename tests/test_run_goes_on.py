"""A run that goes on does nothing twice, and only what it began."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file, save_file

from reftune.experiments import classification
from reftune.experiments.experiment import Experiment
from reftune.experiments.means import means
from reftune.experiments.model_files import version_of
from reftune.experiments.running import run_experiment
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from tests.tiny_classifiers import rows, save_roberta, write_rows


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)
    for name, count, shift in (("train", 8, 0), ("validation", 6, 100), ("test", 4, 200)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows(count, shift))
    save_roberta(tmp_path / "model")
    return tmp_path


def experiment(place, **changes) -> Experiment:
    training = {"epochs": 2, "lr": 1e-2, "batch_size": 4, "save_steps": 0}
    adapter = {"r": 1, "positions": "f1"}
    said = {"seeds": (1, 2), "training": training, "adapter": adapter, "dtype": "float32"}
    return Experiment("classification", str(place / "model"), **{**said, **changes})


def test_a_seed_that_is_scored_is_not_scored_again(place, monkeypatch):
    out = place / "out"
    whole = run_experiment(experiment(place), place / "data", out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "seed-2")
    loaded = []
    usual = classification.load_classifier
    monkeypatch.setattr(
        classification, "load_classifier", lambda *given: loaded.append(given) or usual(*given)
    )
    again = run_experiment(experiment(place), place / "data", out)
    assert len(loaded) == 1
    assert again["seeds"][0] == whole["seeds"][0]  # the seconds of its scoring too
    assert again["mean"] == whole["mean"]


def test_what_a_training_left_is_removed_when_its_record_is_there(place, monkeypatch):
    out = place / "out"

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("reftune.experiments.running._clear", killed)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment(place), place / "data", out)
    assert [*out.glob("seed-1/epoch-*.safetensors")]
    run_experiment(experiment(place), place / "data", out)
    left = {file.name for file in (out / "seed-1").iterdir()}
    assert left == {
        "adapter",
        "answers",
        "scores.json",
        "training.json",
        "training.jsonl",
        "validation.json",
    }


def test_a_signal_after_the_last_step_ends_the_run_once_the_training_is_kept(place, monkeypatch):
    def ask(self, args, state, control, **kwargs):
        self.asked = state.global_step == state.max_steps

    with monkeypatch.context() as broken:
        broken.setattr(StopAtStepEnd, "on_step_end", ask)
        with pytest.raises(TrainingInterrupted, match="after the training of seed 1"):
            run_experiment(experiment(place), place / "data", place / "out")
    assert (place / "out/seed-1/training.json").exists()
    assert not (place / "out/seed-1/scores.json").exists()
    log = (place / "out/seed-1/training.jsonl").read_text()
    again = run_experiment(experiment(place), place / "data", place / "out")
    assert (place / "out/seed-1/training.jsonl").read_text() == log
    whole = run_experiment(experiment(place), place / "data", place / "whole")
    assert again["mean"] == whole["mean"]


def test_other_weights_of_the_same_name_are_another_experiment(place):
    result = run_experiment(experiment(place), place / "data", place / "out")
    assert result["model"] == version_of(str(place / "model"))
    assert result["data"] == str(place / "data")
    (place / "out" / "result.json").unlink()
    weights = place / "model" / "model.safetensors"
    save_file(
        {name: one + 1 for name, one in load_file(weights).items()}, weights, {"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"another experiment \(model "):
        run_experiment(experiment(place), place / "data", place / "out")


def test_the_version_of_a_model(place):
    assert version_of("tiny-chat") == version_of("tiny-chat") != version_of(str(place / "model"))
    assert version_of(str(place / "nowhere")) is None
    before = version_of(str(place / "model"))
    (place / "model" / "tokenizer.json").write_text("{}")
    assert version_of(str(place / "model")) == before
    (place / "model" / "config.json").write_text("{}")
    assert version_of(str(place / "model")) != before


def test_a_score_that_is_no_number_does_not_end_a_run():
    def seed(*values: float) -> dict:
        scores = zip("ab", values, strict=False)
        one = {"metric": "loss", "leaked": False}
        return {"scores": {name: {"value": value, **one} for name, value in scores}}

    found = means([seed(1.0, 2.0), seed(math.nan, 4.0)])
    assert math.isnan(found["a"]["mean"] or 0)
    assert found["a"]["deviation"] is None
    assert found["b"] == {"mean": 3.0, "deviation": pytest.approx(math.sqrt(2))}
    json.dumps(found)


def test_the_average_is_of_several_sets_that_did_not_leak():
    def scores(**leaked: bool) -> dict:
        one = {"metric": "accuracy", "value": 0.5}
        return {"scores": {name: {**one, "leaked": leak} for name, leak in leaked.items()}}

    assert "average" in means([scores(a=False, b=False, c=True)])
    assert "average" not in means([scores(a=False, b=True)])
    assert "average" not in means([scores(a=True, b=True)])
