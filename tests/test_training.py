"""Training: what it writes, what it refuses, and that a resumed one ends as an unbroken one."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import TrainerCallback, set_seed

from reftune import ReftConfig, training
from reftune.output_folder import last_checkpoint
from reftune.reuse import without_reuse
from reftune.stopping import TrainingInterrupted
from reftune.training import TrainingRecipe, TrainingResult, train
from reftune.training_log import read_log
from tests.tiny_text import byte_level, tiny_llama

ROWS = [{"prompt": f"What is {i}?", "completion": "The fox " * (i % 3 + 1)} for i in range(10)]
# 3 steps per epoch, dropout and batches that do not divide the rows: all that can go astray.
RECIPE = TrainingRecipe(epochs=4, batch_size=2, accumulation=2, lr=0.01, save_steps=100)
CHECKPOINTS = "checkpoints"


def run(out: Path, recipe: TrainingRecipe = RECIPE, rows=ROWS, **options) -> TrainingResult:
    """Train a fresh model, as a new process would."""
    tokenizer = byte_level()
    base = tiny_llama(tokenizer)
    set_seed(recipe.seed)
    model = get_peft_model(base, ReftConfig(layers=[0, 1], r=2, positions="f1+l2", dropout=0.3))
    assert isinstance(model, PeftModel)
    return train(model, tokenizer, Dataset.from_list(rows), out, recipe, **options)


class Interrupt(TrainerCallback):
    """Sends a signal to this very process during one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Interrupt, if this is the step."""
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def run_interrupted(monkeypatch: pytest.MonkeyPatch, out: Path, step: int) -> None:
    """Train until a signal comes during a step."""

    class Trainer(training.Trainer):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(Interrupt(step))

    with monkeypatch.context() as patch:
        patch.setattr(training, "Trainer", Trainer)
        with pytest.raises(TrainingInterrupted):
            run(out)


@pytest.fixture(autouse=True, scope="module")
def whole_model():
    """Nothing is reused: what is kept is computed in other batches after an interruption."""
    with without_reuse():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    return out, run(out)


def weights(out: Path) -> bytes:
    return (out / "adapter_model.safetensors").read_bytes()


def steps(out: Path) -> list[tuple]:
    names = ("step", "epoch", "loss", "lr")
    return [tuple(line[name] for name in names) for line in read_log(out / "training.jsonl")]


def test_training_writes_adapter_log_and_picture(unbroken) -> None:
    out, result = unbroken
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [line[0] for line in steps(out)] == list(range(1, 13))
    assert (result.steps, result.rows, result.dropped.rows) == (12, 10, 0)
    assert result.loss == steps(out)[-1][2] < steps(out)[0][2]
    assert result.trainable_parameters == 2 * (2 * 2 * 16 + 2)
    sizes = [(out / name).stat().st_size for name in ("adapter_config.json",)]
    assert result.adapter_bytes == sum(sizes) + len(weights(out))
    assert not list(out.glob(".*"))


def test_checkpoints_hold_the_adapter_only(unbroken) -> None:
    out, _ = unbroken
    names = {path.name for path in (out / CHECKPOINTS).glob("checkpoint-12/*")}
    assert "adapter_model.safetensors" in names
    assert not any(name.startswith(("model", "pytorch_model", "tokenizer")) for name in names)


def test_a_trained_adapter_loads_and_changes_the_logits(unbroken) -> None:
    out, _ = unbroken
    tokenizer = byte_level()
    batch = tokenizer("What is 3?", return_tensors="pt")
    model = PeftModel.from_pretrained(tiny_llama(tokenizer), str(out)).eval()
    logits = model(**batch).logits
    with model.disable_adapter():
        assert not logits.equal(model(**batch).logits)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(unbroken, tmp_path) -> None:
    run(tmp_path / "again")
    assert weights(tmp_path / "again") == weights(unbroken[0])
    run(tmp_path / "other", replace(RECIPE, seed=1))
    assert weights(tmp_path / "other") != weights(unbroken[0])


@pytest.mark.parametrize("step", [1, 4, 9])
def test_an_interrupted_training_resumes_to_the_same_bytes(
    unbroken, tmp_path, monkeypatch, step
) -> None:
    out = tmp_path / "broken"
    usual = signal.getsignal(signal.SIGINT)
    run_interrupted(monkeypatch, out, step)
    assert not (out / "adapter_config.json").exists()
    assert last_checkpoint(out / CHECKPOINTS) == out / CHECKPOINTS / f"checkpoint-{step + 1}"
    assert signal.getsignal(signal.SIGINT) is usual
    before = read_log(out / "training.jsonl")
    run(out, existing="resume")
    assert weights(out) == weights(unbroken[0])
    assert steps(out) == steps(unbroken[0])
    # The very lines, times included: these steps were not trained again.
    assert read_log(out / "training.jsonl")[: step + 1] == before
    seconds = [line["seconds"] for line in read_log(out / "training.jsonl")]
    assert seconds == sorted(seconds)


def test_a_killed_training_resumes_from_the_last_whole_checkpoint(unbroken, tmp_path) -> None:
    out, recipe = tmp_path / "killed", replace(RECIPE, save_steps=5)
    run(out, recipe)
    # As a kill during the third checkpoint, and during a line of the log, would leave it.
    (out / "adapter_config.json").unlink()
    for name in ("trainer_state.json", "training_args.bin"):
        torn = out / CHECKPOINTS / "checkpoint-12" / name
        torn.write_bytes(torn.read_bytes()[:20])
    with (out / "training.jsonl").open("a") as log:
        log.write('{"step": 13, "lo')
    assert last_checkpoint(out / CHECKPOINTS) == out / CHECKPOINTS / "checkpoint-10"
    run(out, recipe, existing="resume")
    assert weights(out) == weights(unbroken[0])
    assert steps(out) == steps(unbroken[0])


def test_a_training_killed_before_its_first_checkpoint_starts_again(unbroken, tmp_path) -> None:
    (tmp_path / "training.jsonl").write_text(json.dumps({"step": 1, "seconds": 9.0}) + "\n")
    (tmp_path / "recipe.json").write_bytes((unbroken[0] / "recipe.json").read_bytes())
    run(tmp_path, existing="resume")
    assert weights(tmp_path) == weights(unbroken[0])
    assert steps(tmp_path) == steps(unbroken[0])


@pytest.mark.parametrize(
    ("recipe", "rows", "says"),
    [
        (replace(RECIPE, lr=0.02), ROWS, "lr is 0.02, but .* had 0.01"),
        (RECIPE, ROWS[:-1], "rows_sha256"),
    ],
)
def test_resuming_with_other_settings_is_refused(tmp_path, monkeypatch, recipe, rows, says) -> None:
    run_interrupted(monkeypatch, tmp_path, 1)
    with pytest.raises(ValueError, match=says):
        run(tmp_path, recipe, rows, existing="resume")


def test_a_folder_with_something_in_it_is_refused(unbroken, tmp_path) -> None:
    out, before = unbroken[0], weights(unbroken[0])
    with pytest.raises(FileExistsError, match="holds a finished adapter"):
        run(out)
    with pytest.raises(FileExistsError, match="nothing to resume"):
        run(out, existing="resume")
    assert weights(out) == before
    with pytest.raises(FileNotFoundError, match="no interrupted training"):
        run(tmp_path / "nowhere", existing="resume")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        run(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file"):
        run(tmp_path / "thesis.txt")
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(FileExistsError, match="interrupted training; --resume"):
        run(tmp_path)


def test_overwriting_leaves_nothing_of_the_old_training(tmp_path) -> None:
    run(tmp_path, replace(RECIPE, save_steps=3))
    (tmp_path / "thesis.txt").write_text("mine")
    run(tmp_path, replace(RECIPE, epochs=1, save_steps=0), existing="overwrite")
    assert [line[0] for line in steps(tmp_path)] == [1, 2, 3]
    assert not (tmp_path / CHECKPOINTS).exists()
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_bad_data_leaves_an_old_training_alone(tmp_path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    before = weights(tmp_path)
    with pytest.raises(ValueError, match="no row is left"):
        run(tmp_path, rows=[{"prompt": "", "completion": "x"}], existing="overwrite")
    assert weights(tmp_path) == before


def test_without_matplotlib_training_goes_on_and_says_what_to_install(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    run(tmp_path, replace(RECIPE, epochs=1))
    assert not (tmp_path / "loss.png").exists()
    assert "reftune[plots]" in caplog.text


def test_held_out_rows_are_evaluated(tmp_path) -> None:
    run(tmp_path, replace(RECIPE, epochs=2), eval_rows=Dataset.from_list(ROWS[:3]))
    lines = read_log(tmp_path / "training.jsonl")
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6]


def test_the_last_step_is_logged_whatever_the_interval(tmp_path) -> None:
    result = run(tmp_path, replace(RECIPE, epochs=2, log_steps=4))
    assert [line[0] for line in steps(tmp_path)] == [4, 6]
    assert result.steps == 6


def test_batches_are_of_like_length_if_wanted(tmp_path, monkeypatch) -> None:
    spread = {True: [], False: []}
    rows = [{"prompt": "a", "completion": "b" * (1 + 7 * i % 40)} for i in range(40)]

    class Collator(training.PaddingCollator):
        def __call__(self, rows):
            lengths = [len(row["input_ids"]) for row in rows]
            spread[wanted].append(max(lengths) - min(lengths))
            return super().__call__(rows)

    monkeypatch.setattr(training, "PaddingCollator", Collator)
    for wanted in spread:
        recipe = replace(RECIPE, group_by_length=wanted, accumulation=1, epochs=2)
        run(tmp_path / str(wanted), recipe, rows)
    assert sum(spread[True]) < sum(spread[False]) / 2


def test_after_a_training_in_bfloat16_the_model_computes_as_the_loaded_adapter(tmp_path) -> None:
    tokenizer = byte_level()
    model = get_peft_model(tiny_llama(tokenizer), ReftConfig(layers=[0], r=2, positions="l1"))
    recipe = replace(RECIPE, bf16=True, epochs=2)
    train(model, tokenizer, Dataset.from_list(ROWS), tmp_path / "out", recipe)
    loaded = PeftModel.from_pretrained(tiny_llama(tokenizer), tmp_path / "out").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model.eval()(input_ids=ids).logits, loaded(input_ids=ids).logits)


def test_products_are_in_bfloat16_if_wanted_and_weights_are_not(tmp_path, monkeypatch) -> None:
    dtypes = {}
    forward = torch.nn.Linear.forward

    def seen(self, given):
        out = forward(self, given)
        dtypes.setdefault(wanted, set()).add(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.Linear, "forward", seen)
    for wanted in (False, True):
        run(tmp_path / str(wanted), replace(RECIPE, bf16=wanted, epochs=1))
        trained = load_file(tmp_path / str(wanted) / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert dtypes == {False: {torch.float32}, True: {torch.bfloat16}}


def test_rows_longer_than_the_model_are_cut(tmp_path) -> None:
    long = [{"prompt": "fox " * 400, "completion": "dog " * 400}]
    result = run(tmp_path, TrainingRecipe(epochs=1, max_length=9999), rows=long)
    assert (result.dropped.cut_prompt, result.dropped.cut_completion) == (1, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.0), ("epochs", -1), ("batch_size", 0), ("warmup", -0.1)]
)
def test_impossible_recipes_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} {value}: expected"):
        TrainingRecipe(**{name: value})
