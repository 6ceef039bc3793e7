"""What is wrong with an experiment is said before it trains, and leaves nothing in its way."""

import json
import shutil

import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from peft import PromptTuningConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from reftune.cli import main
from reftune.experiments.experiment import Experiment, load_experiment
from reftune.experiments.inputs import read_inputs
from reftune.experiments.loading import room
from reftune.generation import encode_prompts
from reftune.tasks import TASKS
from tests.tiny_classifiers import rows, save_roberta, write_rows
from tests.tiny_text import byte_level, tiny_llama

TRAINING = {"epochs": 1, "lr": 1e-2, "batch_size": 4, "save_steps": 0}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)


def question(number: int, **more) -> dict:
    answer = "false" if number % 2 else "true"
    return {"instruction": f"is {number} even?", "answer": answer, **more}


@pytest.fixture
def language(tmp_path):
    """A recipe of a language task, with its data."""
    for name, numbers in (("small/train", range(8)), ("one/test", range(10, 14))):
        file = tmp_path / "data" / f"{name}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps([question(number) for number in numbers]))
    tiny_llama(byte_level()).save_pretrained(tmp_path / "model")
    byte_level().save_pretrained(tmp_path / "model")
    said = {"task": "commonsense", "train": "small", "tests": ["one"], "dtype": "float32"}
    said |= {"adapter": {"r": 1, "layers": [0], "positions": "l1"}, "generation": None}
    write(tmp_path, said | {"model": str(tmp_path / "model")})
    return tmp_path


@pytest.fixture
def classes(tmp_path):
    """A recipe of a classification, with its data."""
    for name, count, shift in (("train", 8, 0), ("validation", 6, 100), ("test", 4, 200)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows(count, shift))
    save_roberta(tmp_path / "model")
    said = {"task": "classification", "adapter": {"r": 1, "positions": "f1"}, "dtype": "float32"}
    write(tmp_path, said | {"model": str(tmp_path / "model")})
    return tmp_path


def write(folder, said: dict, **changes) -> None:
    said = {"seeds": [1], "training": TRAINING, **said, **changes}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(said))


def change(folder, **changes) -> None:
    said = yaml.safe_load((folder / "recipe.yaml").read_text())
    write(folder, said, **changes)


def run(folder, *more: str) -> int:
    given = ["run", str(folder / "recipe.yaml"), "--data", str(folder / "data")]
    return main([*given, "--out", str(folder / "out"), *more])


def refused(folder, capsys, message: str, *more: str) -> None:
    capsys.readouterr()
    assert run(folder, *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "internal error" not in error
    assert "training:" not in error  # its bar
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "is 3 even?"}, "one/test.json, row 2: a row of commonsense"),
        ({"question": "is 3 even?", "answer": "false"}, "one/test.json, row 2: a row of"),
        (question(1, input=""), ""),
    ],
)
def test_every_row_of_a_test_set_is_held_against_the_task(language, capsys, row, message):
    (language / "data/one/test.json").write_text(json.dumps([question(0), row]))
    if message:
        refused(language, capsys, message)
    else:
        assert run(language) == 0


def test_a_question_without_room_for_its_answer_is_told(language, capsys):
    (language / "data/one/test.json").write_text(json.dumps([question(0), question(9**500)]))
    refused(language, capsys, "one/test.json, row 2: a prompt of")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "foo"}, "schedule 'foo': expected one of linear"),
        ({"batch_size": 2.5}, "batch_size 2.5: expected a whole number"),
        ({"lr": "fast"}, "lr 'fast': expected a number"),
        ({"max_length": 1}, "max_length 1: expected at least 2"),
        ({"bf16": "yes"}, "bf16 'yes': expected true or false"),
    ],
)
def test_a_training_of_no_meaning_leaves_nothing(language, capsys, changes, message):
    change(language, training=TRAINING | changes)
    refused(language, capsys, message)
    change(language, training=TRAINING)
    assert run(language) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bitfit", "adapter": None}, "expected a model with biases"),
        ({"seeds": [2**32]}, "below 4294967296"),
        ({"seeds": 1}, "seeds 1: expected a list"),
        ({"tests": "one"}, "tests 'one': expected a list"),
        ({"training": "fast"}, "training 'fast': expected names and values"),
        ({"generation": {"max_new_tokens": 1.5}}, "max_new_tokens 1.5: expected a whole number"),
    ],
)
def test_a_recipe_of_no_meaning_leaves_nothing(language, capsys, changes, message):
    given = yaml.safe_load((language / "recipe.yaml").read_text())
    change(language, **changes)
    refused(language, capsys, message)
    write(language, given)
    assert run(language) == 0


def test_a_model_that_is_not_there_or_torn_leaves_nothing(classes, language, capsys):
    change(classes, task="classification", tests=[], train="", generation={})
    for name in ("train", "validation", "test"):
        assert (classes / "data" / f"{name}.jsonl").exists()
    refused(classes, capsys, "cannot be loaded", "--model", str(classes / "nowhere"))
    weights = classes / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(classes, capsys, "cannot be loaded")


def test_what_the_user_has_in_the_folder_stays(classes, capsys):
    change(classes, adapter={"r": 1, "positions": "f1", "layers": [7]})
    refused(classes, capsys, "layer 7")
    (classes / "out").mkdir()
    assert run(classes) == 2
    assert not [*(classes / "out").iterdir()]
    change(classes, adapter={"r": 1, "positions": "f1"})
    assert run(classes) == 0
    (classes / "out" / "result.json").unlink()
    shutil.rmtree(classes / "out" / "seed-1")
    (classes / "out" / "notes.txt").write_text("mine")
    (classes / "model" / "tokenizer.json").unlink()
    assert run(classes) == 2
    assert [file.name for file in (classes / "out").iterdir()] == ["notes.txt"]


def test_numbers_may_be_written_as_yaml_1_2_has_them(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "task: rte\nmodel: m\ntraining: {lr: 9e-4, warmup: 1E-1, weight_decay: +2.e-3}\n"
    )
    assert load_experiment(file).training == {"lr": 9e-4, "warmup": 0.1, "weight_decay": 2e-3}
    file.write_text("task: rte\nmodel: m\nsource: 1e\ntraining:\n")
    assert load_experiment(file).source == "1e"


def test_no_set_is_trained_on_and_scored(language, tmp_path, capsys):
    both = language / "data" / "both.json"
    both.write_text(json.dumps([question(number) for number in range(6)]))
    change(language, train="both", tests=["both"])
    refused(language, capsys, "both is the training set too")
    copy = language / "data" / "copy.json"
    copy.write_text(both.read_text())
    change(language, train="both", tests=["copy"])
    refused(language, capsys, "copy is the training set too")
    gsm8k = tmp_path / "gsm8k_openai.json"
    gsm8k.write_text(json.dumps([{"question": "1+1?", "answer": "#### 2"}] * 4))
    with pytest.raises(ValueError, match="gsm8k_openai is the training set too"):
        read_inputs(Experiment("gsm8k", "m"), gsm8k)


def test_no_epoch_is_chosen_by_the_training_set(tmp_path):
    file = tmp_path / "rte.jsonl"
    write_rows(file, [{"sentence1": "a", "sentence2": "b", "label": i % 2} for i in range(4)])
    with pytest.raises(ValueError, match="validation is the training set too"):
        read_inputs(Experiment("rte", "m"), file)


def test_pairs_of_texts_are_in_all_sets_or_in_none(classes, capsys):
    write_rows(classes / "data/test.jsonl", [{**row, "text_pair": "b"} for row in rows(4, 200)])
    refused(classes, capsys, 'test.jsonl has a "text_pair"')


def test_a_cell_that_is_too_long_for_a_table_is_one_line(classes, capsys):
    (classes / "data" / "train.jsonl").unlink()
    (classes / "data" / "train.csv").write_text(f"text,label\n{'a' * 140_000},1\nb,0\n")
    refused(classes, capsys, 'train.csv" cannot be read as a table (field larger than')
    given = ["train", "--data", str(classes / "data" / "train.csv"), "--out", str(classes / "x")]
    assert main(given) == 2
    assert 'train.csv" cannot be read as CSV (field larger' in capsys.readouterr().err


def test_a_set_is_found_whatever_the_case_of_its_name(classes):
    (classes / "data" / "test.jsonl").rename(classes / "data" / "MyTest.jsonl")
    assert run(classes, "--tests", "MyTest") == 0


def test_labels_may_be_true_and_false(classes):
    for name, shift in (("train", 0), ("validation", 100), ("test", 200)):
        said = [{**row, "label": row["label"] == "positive"} for row in rows(8, shift)]
        write_rows(classes / "data" / f"{name}.jsonl", said)
    assert run(classes) == 0
    answers = (classes / "out/seed-1/answers/test.jsonl").read_text().splitlines()
    wanted = ["01"[row["label"] == "positive"] for row in rows(8, 200)]
    assert [json.loads(line)["answer"] for line in answers] == wanted


def test_classes_that_are_called_by_numbers_are_told_by_index(classes, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", classes / "cache")
    hub, names = classes / "hub", ["1", "2", "3"]
    hub.mkdir()
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    for name, shift in (("train", 0), ("validation", 30), ("test", 60)):
        given = [{"text": f"film {i}", "label": i % 3} for i in range(shift, shift + 9)]
        Dataset.from_list(given, kinds).to_parquet(hub / f"{name}-0.parquet")
    given = ["run", str(classes / "recipe.yaml"), "--data", f"hub:{hub}"]
    assert main([*given, "--out", str(classes / "out")]) == 0
    answers = (classes / "out/seed-1/answers/test.jsonl").read_text().splitlines()
    assert [json.loads(line)["answer"] for line in answers] == names * 3


def test_prompts_that_are_trained_take_room_of_long_texts(classes):
    for name, shift in (("train", 0), ("validation", 100), ("test", 200)):
        said = [{**row, "text": row["text"] * 20} for row in rows(8, shift)]
        write_rows(classes / "data" / f"{name}.jsonl", said)
    change(classes, method="prompt-tuning", adapter={"num_virtual_tokens": 5})
    assert run(classes) == 0
    given = ["eval", "--task", "classification", "--data", str(classes / "data")]
    given += ["--adapter", str(classes / "out/seed-1/adapter"), "--out", str(classes / "scores")]
    assert main(given) == 0
    one, two = (
        (classes / place / "test.jsonl").read_text() for place in ("out/seed-1/answers", "scores")
    )
    assert one == two


def test_they_take_room_of_a_language_models_rows_too(language):
    """GPT-2 has a table of positions: one place too many ends a training with an error."""
    torch.manual_seed(0)
    tokenizer = byte_level()
    sizes = {"vocab_size": len(tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, n_positions=64))
    model.save_pretrained(language / "gpt2")
    tokenizer.save_pretrained(language / "gpt2")
    file = language / "data/small/train.json"
    file.write_text(json.dumps([question(9**number) for number in range(0, 80, 10)]))
    method = {"method": "prompt-tuning", "adapter": {"num_virtual_tokens": 5}}
    change(language, **method, generation={"max_new_tokens": 2})
    assert run(language, "--model", str(language / "gpt2")) == 0
    assert room(model, 100) == 64
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    assert [room(get_peft_model(model, prompts), wanted) for wanted in (100, 59, 7)] == [59, 59, 7]


@pytest.mark.parametrize("method", ["prompt-tuning", "prefix-tuning"])
def test_they_take_room_of_questions_too(language, capsys, method):
    (language / "data/one/test.json").write_text(json.dumps([question(9)]))
    asked = Dataset.from_list([TASKS["commonsense"].question(question(9), "")])
    (prompt,) = encode_prompts(asked, byte_level(), "plain")
    config = language / "model/config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "max_position_embeddings": len(prompt) + 8}))
    change(language, method=method, generation={"max_new_tokens": 4})
    change(language, adapter={"num_virtual_tokens": 4})
    assert run(language) == 0
    shutil.rmtree(language / "out")
    for own in (5, len(prompt) + 8):
        change(language, adapter={"num_virtual_tokens": own})
        refused(language, capsys, f"do not fit the {len(prompt) + 8 - own} positions")


def test_the_bundled_model_too_is_held_against_the_recipes_number(language, capsys):
    change(language, model="tiny-chat", trainable=5)
    capsys.readouterr()
    assert run(language) == 2
    assert "numbers are trained: expected 5" in capsys.readouterr().err
