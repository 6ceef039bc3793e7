"""Many trainings at once: each job ends as it would alone, whatever the others are."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import set_seed

from reftune import crew
from reftune.collation import PaddingCollator
from reftune.encoding import encode_dataset
from reftune.jobs import Job
from reftune.many import train_many
from reftune.output_folder import CONFIG, WEIGHTS
from reftune.stopping import TrainingInterrupted
from reftune.training import TrainingResult, train
from reftune.training_log import read_log
from tests.many_jobs import JOBS, config_of, job, together
from tests.tiny_text import byte_level, tiny_llama

EXACT = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, TrainingResult]]:
    """Every job trained by itself, as `reftune train` does it."""
    out, results = tmp_path_factory.mktemp("alone"), {}
    for name in JOBS:
        tokenizer, one = byte_level(), job(name, out)
        base = tiny_llama(tokenizer)
        set_seed(one.recipe.seed)
        model = get_peft_model(base, one.config)
        assert isinstance(model, PeftModel)
        results[name] = train(
            model, tokenizer, one.rows, one.out, one.recipe, eval_rows=one.eval_rows
        )
    return out, results


def assert_same(out: Path, expected: Path) -> None:
    """The same adapter and the same log, but for the last digits."""
    assert (out / CONFIG).read_text() == (expected / CONFIG).read_text()
    assert (out / "recipe.json").read_text() == (expected / "recipe.json").read_text()
    tensors, others = load_file(out / WEIGHTS), load_file(expected / WEIGHTS)
    assert tensors.keys() == others.keys()
    for name in tensors:
        torch.testing.assert_close(tensors[name], others[name], **EXACT)
    lines, wanted = read_log(out / "training.jsonl"), read_log(expected / "training.jsonl")
    assert [line.keys() for line in lines] == [line.keys() for line in wanted]
    for line, other in zip(lines, wanted, strict=True):
        values = {name: value for name, value in line.items() if name != "seconds"}
        assert values == pytest.approx({name: other[name] for name in values}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("rows_per_pass", [10, 64])
def test_together_every_job_ends_as_alone(alone, tmp_path, rows_per_pass) -> None:
    results = together(tmp_path, rows_per_pass=rows_per_pass)
    for name, result in zip(JOBS, results, strict=True):
        assert_same(tmp_path / name, alone[0] / name)
        expected = replace(
            alone[1][name], out=result.out, seconds=result.seconds, loss=pytest.approx(result.loss)
        )
        assert result == expected
        assert sorted(path.name for path in result.out.iterdir()) == [
            "README.md",
            CONFIG,
            WEIGHTS,
            "recipe.json",
            "training.jsonl",
        ]


def test_the_adapters_learn(alone) -> None:
    """So that the equality above is one of trained adapters."""
    for name in JOBS:
        log = read_log(alone[0] / name / "training.jsonl")
        losses = [line["loss"] for line in log if "loss" in line]
        assert abs(losses[-1] - losses[0]) > 1e-3


def test_an_adapter_loads_by_itself_and_changes_the_logits(tmp_path) -> None:
    together(tmp_path, ["plain", "decay"])
    tokenizer = byte_level()
    batch = tokenizer("What is 3?", return_tensors="pt")
    model = PeftModel.from_pretrained(tiny_llama(tokenizer), str(tmp_path / "decay")).eval()
    assert list(model.peft_config) == ["default"]
    logits = model(**batch).logits
    with model.disable_adapter():
        assert not logits.equal(model(**batch).logits)


def test_the_base_model_is_what_it_was(tmp_path) -> None:
    tokenizer = byte_level()
    model = tiny_llama(tokenizer)
    names = [name for name, _ in model.named_modules()]
    batch = tokenizer("What is 3?", return_tensors="pt")
    before = model(**batch).logits
    train_many(model, tokenizer, [job("plain", tmp_path)])
    assert [name for name, _ in model.named_modules()] == names
    assert not model.training
    assert model(**batch).logits.equal(before)


def test_a_pass_has_no_more_rows_than_wanted(tmp_path, monkeypatch) -> None:
    sizes = []

    class Counting(PaddingCollator):
        def __call__(self, rows):
            sizes.append(len(rows))
            return super().__call__(rows)

    monkeypatch.setattr(crew, "PaddingCollator", Counting)
    names = ("plain", "decay", "direft")  # 10, 7 and 7 rows; batches of 3, 7 and 5
    together(tmp_path, names, rows_per_pass=10)
    assert max(sizes) == 10
    assert sum(sizes) == 4 * 10 + 3 * 7 + 3 * 7  # every row once in an epoch


def test_rows_may_be_encoded_already(alone, tmp_path) -> None:
    tokenizer = byte_level()
    one = job("plain", tmp_path)
    one.rows, _ = encode_dataset(one.rows, tokenizer)
    train_many(tiny_llama(tokenizer), tokenizer, [one])
    assert_same(tmp_path / "plain", alone[0] / "plain")


def test_a_job_that_diverges_harms_no_other(alone, tmp_path) -> None:
    tokenizer = byte_level()
    wild = replace(job("plain", tmp_path), out=tmp_path / "wild")
    wild.recipe = replace(wild.recipe, lr=1e30, max_grad_norm=0)
    train_many(tiny_llama(tokenizer), tokenizer, [wild, job("plain", tmp_path)])
    assert_same(tmp_path / "plain", alone[0] / "plain")


def test_dropout_is_allowed(tmp_path) -> None:
    one = job("plain", tmp_path)
    one.config = config_of("plain", dropout=0.5)
    tokenizer = byte_level()
    [result] = train_many(tiny_llama(tokenizer), tokenizer, [one])
    assert result.steps == 16


def interrupted(out: Path, after: int) -> list[str]:
    """Train until a signal comes, when some jobs have ended; return the names of those."""
    ended: list[str] = []

    def interrupt(one: Job, result: TrainingResult) -> None:
        ended.append(Path(one.out).name)
        if len(ended) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=f"of {len(JOBS)} jobs are finished"):
        together(out, rows_per_pass=10, on_end=interrupt)
    assert signal.getsignal(signal.SIGTERM) is usual
    return ended


def test_an_interruption_leaves_finished_jobs_and_the_others_begin_again(alone, tmp_path) -> None:
    ended = interrupted(tmp_path, after=2)
    assert {path.parent.name for path in tmp_path.glob(f"*/{CONFIG}")} == set(ended)
    assert not list(tmp_path.glob("*/.*"))
    times = {name: (tmp_path / name / WEIGHTS).stat().st_mtime_ns for name in ended}
    results = together(tmp_path, existing="resume")
    assert times == {name: (tmp_path / name / WEIGHTS).stat().st_mtime_ns for name in ended}
    for name, result in zip(JOBS, results, strict=True):
        assert_same(tmp_path / name, alone[0] / name)
        assert (result.steps, result.rows) == (alone[1][name].steps, alone[1][name].rows)


def test_resuming_when_all_is_done_does_nothing(tmp_path) -> None:
    done = together(tmp_path, ["plain", "red"])
    assert together(tmp_path, ["plain", "red"], existing="resume") == done
