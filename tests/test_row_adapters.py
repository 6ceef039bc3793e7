"""Rows that name their adapter get the answers that this adapter gives alone."""

import json
from functools import cache
from pathlib import Path

import pytest
from datasets import Dataset
from peft import PeftModel

from reftune.adapter_digest import folder_digest
from reftune.answers_file import fingerprint, generate_file
from reftune.cli import main
from reftune.generation import GenerationSettings, encode_prompts, generate_answers
from reftune.groups import BASE
from reftune.prompt_batches import in_batches
from reftune.row_adapters import adapters_of_rows
from reftune.shelf import Shelf, attach
from tests.row_adapters import save_adapters
from tests.test_cli import fails
from tests.tiny_text import byte_level, save_tiny_model, tiny_llama

TOKENIZER = byte_level(chat=True)
NAMES = ["anna", "ben", "v1.2"]
ROWS = [
    {"prompt": f"What is {'the fox ' * (i % 4)}{i}?", "adapter": [*NAMES, None][i % 4]}
    for i in range(13)
]
SETTINGS = GenerationSettings(max_new_tokens=8, batch_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    save_tiny_model(folder / "model", chat=True)
    save_adapters(folder, [*NAMES, "other"])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


@cache
def alone(folder: Path, default: str | None = None) -> list[str]:
    """Answer every row, one at a time, with a model that has its adapter and no other."""
    models = {name: attach(tiny_llama(TOKENIZER), folder / "adapters" / name) for name in NAMES}
    models[None] = tiny_llama(TOKENIZER)
    if default:
        models[None] = attach(models[None], folder / "adapters" / default)
    answers = []
    for row in ROWS:
        prompts = encode_prompts(Dataset.from_list([row]), TOKENIZER)
        answers += next(generate_answers(models[row["adapter"]], TOKENIZER, prompts, SETTINGS))
    return answers


@pytest.mark.parametrize("default", [None, "other"])
def test_rows_are_answered_as_alone(folder, capsys, default):
    command = ["generate", "--model", f"{folder}/model", "--data", f"{folder}/rows.jsonl"]
    command += ["--max-new-tokens", "8", "--batch-size", "3", "--adapters", f"{folder}/adapters"]
    command += ["--adapter", f"{folder}/adapters/{default}"] if default else []
    assert main(command) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = alone(folder, default)
    assert [line["output"] for line in lines] == expected
    assert len(set(expected)) > len(NAMES)  # a wrong adapter shows
    assert [line.get("adapter") for line in lines] == [row["adapter"] for row in ROWS]


def test_few_are_attached_at_a_time(folder):
    settings = GenerationSettings(max_new_tokens=8, batch_size=1)
    rows = adapters_of_rows(Dataset.from_list(ROWS), folder / "adapters")
    shelf = Shelf(tiny_llama(TOKENIZER), TOKENIZER, rows.folders, settings, room=2)
    prompts = encode_prompts(Dataset.from_list(ROWS), TOKENIZER)
    answers = []
    for batch in in_batches(prompts, 1, adapters=rows.names):
        answers += shelf.answer(batch)
        attached = shelf.model.peft_config if isinstance(shelf.model, PeftModel) else {}
        assert len(attached) <= 2
    assert answers == alone(folder)


@pytest.mark.parametrize("break_", ["away", "wide"])
def test_after_an_adapter_that_failed_rows_have_their_own(folder, tmp_path, break_):
    save_adapters(tmp_path, ["wide"], hidden_size=24)
    bad = {"away": tmp_path / "nowhere", "wide": tmp_path / "adapters" / "wide"}[break_]
    folders = {name: folder / "adapters" / name for name in NAMES}
    settings = GenerationSettings(max_new_tokens=8, batch_size=1)
    shelf = Shelf(tiny_llama(TOKENIZER), TOKENIZER, folders, settings, room=1)

    def answer(name: str) -> str:
        row = next(number for number, row in enumerate(ROWS) if row["adapter"] == name)
        prompts = encode_prompts(Dataset.from_list([ROWS[row]]), TOKENIZER)
        (batch,) = in_batches(prompts, 1, adapters=[name])
        return shelf.answer(batch)[0]

    expected = {row["adapter"]: said for row, said in zip(ROWS[:4], alone(folder), strict=False)}
    for failing in ("first", "later"):
        good, folders["anna"] = folders["anna"], bad
        for _ in range(2):
            with pytest.raises(ValueError, match="does not fit the model"):
                answer("anna")
        folders["anna"] = good
        assert answer("anna") == expected["anna"], failing
        assert answer("v1.2") == expected["v1.2"], failing
        assert answer("ben") == expected["ben"], failing
        assert isinstance(shelf.model, PeftModel)
        assert len(shelf.model.peft_config) == 1


def test_attached_adapters_are_named_per_prompt(folder):
    model = attach(tiny_llama(TOKENIZER), folder / "adapters" / "anna", "anna")
    attach(model, folder / "adapters" / "ben", "ben")
    rows = [row for row in ROWS if row["adapter"] in ("anna", "ben", None)]
    prompts = encode_prompts(Dataset.from_list(rows), TOKENIZER)
    names = [row["adapter"] or BASE for row in rows]
    batches = generate_answers(model, TOKENIZER, prompts, SETTINGS, adapters=names)
    expected = [a for row, a in zip(ROWS, alone(folder), strict=True) if row in rows]
    assert [answer for batch in batches for answer in batch] == expected
    with pytest.raises(ValueError, match=r"1 adapters for \d+ prompts: expected one each"):
        next(generate_answers(model, TOKENIZER, prompts, SETTINGS, adapters=["anna"]))


def test_an_adapter_has_one_digest_attached_and_in_its_folder(folder):
    digests = set()
    for name in NAMES:
        model = attach(tiny_llama(TOKENIZER), folder / "adapters" / name)
        digest = folder_digest(folder / "adapters" / name)
        assert fingerprint(model)["adapter"] == digest
        digests.add(digest)
    assert len(digests) == len(NAMES)


def test_a_file_is_gone_on_with_by_the_same_adapters_alone(folder, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    command = ["generate", "--model", f"{folder}/model", "--data", f"{folder}/rows.jsonl"]
    command += ["--max-new-tokens", "8", "--batch-size", "3", "--out", str(out)]
    named = [*command, "--adapters", f"{folder}/adapters"]
    assert main(named) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    assert main(named) == 0
    assert out.read_bytes() == whole
    out.write_bytes(whole[: len(whole) // 2])
    save_adapters(tmp_path, ["ben", *NAMES])  # the same names, other adapters
    fails(capsys, [*command, "--adapters", f"{tmp_path}/adapters"], "another adapters")


def test_a_file_of_the_library_is_gone_on_with_by_the_tool(folder, tmp_path):
    out, rows = tmp_path / "out.jsonl", Dataset.from_list(ROWS)
    base = tiny_llama(TOKENIZER)
    base.name_or_path = f"{folder}/model"
    model = attach(base, folder / "adapters" / "anna")
    generate_file(model, TOKENIZER, rows, out, SETTINGS)
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    command = ["generate", "--model", f"{folder}/model", "--data", f"{folder}/rows.jsonl"]
    command += ["--adapter", f"{folder}/adapters/anna", "--out", str(out)]
    assert main([*command, "--max-new-tokens", "8", "--batch-size", "3"]) == 0
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("data", "adapters", "says"),
    [
        ('{"prompt": "a", "adapter": "eve"}', "adapters", ["row 1", "'eve'", "anna, ben"]),
        ('{"prompt": "a", "adapter": "../model"}', "adapters", ["row 1", "'../model'"]),
        ('{"prompt": "a", "adapter": 3}', "adapters", ["row 1", "adapter 3"]),
        ('{"prompt": "a", "adapter": 0}', "adapters", ["row 1", "adapter 0"]),
        ('{"prompt": "a", "adapter": false}', "adapters", ["row 1", "adapter False"]),
        ('{"prompt": "a", "adapter": ["anna"]}', "adapters", ["row 1", "adapter ['anna']"]),
        ('{"prompt": "a"}', "adapters", ['columns prompt: expected also "adapter"']),
        ('{"prompt": "a", "adapter": "eve"}', "nowhere", ["nowhere", "no such folder"]),
        ('{"prompt": "a", "adapter": "eve"}', "model", ["0 of them: none"]),
    ],
)
def test_what_is_wrong_is_said(folder, tmp_path, capsys, data, adapters, says):
    (tmp_path / "rows.jsonl").write_text(data + "\n")
    command = ["generate", "--model", f"{folder}/model", "--data", f"{tmp_path}/rows.jsonl"]
    fails(capsys, [*command, "--adapters", f"{folder}/{adapters}"], *says)


def test_an_adapter_of_another_model_is_named(folder, tmp_path, capsys):
    save_adapters(tmp_path, ["wide"], hidden_size=24)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "adapter": "wide"}\n')
    command = ["generate", "--model", f"{folder}/model", "--data", f"{tmp_path}/rows.jsonl"]
    fails(capsys, [*command, "--adapters", f"{tmp_path}/adapters"], "wide", "hidden", "24", "16")


def test_adapters_of_other_base_models_need_one_that_is_named(folder, tmp_path, capsys):
    save_adapters(tmp_path, ["anna", "ben", "unused"])
    for name in ("anna", "ben", "unused"):
        file = tmp_path / "adapters" / name / "adapter_config.json"
        base = f"{folder}/model" if name == "anna" else str(tmp_path / name)
        file.write_text(
            json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base})
        )
    save_tiny_model(tmp_path / "ben", chat=True)
    rows = [{"prompt": "a", "adapter": name} for name in ("ben", "anna")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["generate", "--data", f"{tmp_path}/rows.jsonl", "--max-new-tokens", "1"]
    command += ["--adapters", f"{tmp_path}/adapters"]
    fails(capsys, command, "adapters/anna", "adapters/ben", f"{folder}/model", "say --model")
    assert main([*command, "--model", f"{folder}/model"]) == 0
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[1]) + "\n")
    assert main(command) == 0
    fails(capsys, [*command, "--adapter", f"{tmp_path}/adapters/ben"], "say --model")
