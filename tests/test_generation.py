"""Answers in batches, into a file that a killed run goes on with, and streamed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model

from reftune import ReftConfig
from reftune.answers_file import generate_file
from reftune.encoding import encode_prompt
from reftune.generation import (
    GenerationSettings,
    encode_prompts,
    generate_answers,
    stream,
)
from reftune.rendering import Rendered
from tests.tiny_text import byte_level, metaspace, tiny_llama

TOKENIZER = byte_level(chat=True)
ROWS = Dataset.from_list(
    [{"prompt": "What is " + "the fox " * (i % 4) + str(i), "label": i} for i in range(7)]
)
GREEDY = GenerationSettings(max_new_tokens=6, batch_size=3)
DRAWN = GenerationSettings(max_new_tokens=6, batch_size=3, temperature=1.0, top_p=0.9)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = ReftConfig(layers=[0, 1], r=2, positions="l1", init="paper")
    return get_peft_model(tiny_llama(TOKENIZER), config).eval()


def answers(model, settings: GenerationSettings = GREEDY, rows: Dataset = ROWS) -> list[str]:
    prompts = encode_prompts(rows, TOKENIZER, settings.template)
    return [a for batch in generate_answers(model, TOKENIZER, prompts, settings) for a in batch]


def by_hand(model, prompt: str) -> str:
    """Answer one prompt alone, unpadded, token by token, with no cache."""
    turns = [{"role": "user", "content": prompt}]
    ids = TOKENIZER.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=6,
        do_sample=False,
        use_cache=False,
    )
    return TOKENIZER.decode(out[0, ids.size(1) :], skip_special_tokens=True)


def test_batched_answers_are_those_of_each_prompt_alone_and_in_order(model) -> None:
    assert answers(model) == [by_hand(model, prompt) for prompt in ROWS["prompt"]]


def test_the_adapter_is_used(model) -> None:
    with model.disable_adapter():
        base = answers(model)
    assert base != answers(model)


@pytest.mark.parametrize("settings", [GREEDY, DRAWN])
def test_the_file_has_every_row_in_order_with_its_columns(model, tmp_path, settings) -> None:
    out = tmp_path / "out.jsonl"
    assert generate_file(model, TOKENIZER, ROWS, out, settings) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    expected = answers(model, settings)
    assert lines == [
        {"index": i, **row, "output": answer}
        for i, (row, answer) in enumerate(zip(ROWS.to_list(), expected, strict=True))
    ]


@pytest.mark.parametrize("settings", [GREEDY, DRAWN])
@pytest.mark.parametrize("cut", [1, 40, 200, 350, -1])
def test_a_killed_run_ends_as_an_unbroken_one(model, tmp_path, settings, cut) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    generate_file(model, TOKENIZER, ROWS, whole, settings)
    broken.write_bytes(whole.read_bytes()[:cut])
    record = whole.with_name("whole.jsonl.settings.json")
    record.rename(broken.with_name("broken.jsonl.settings.json"))
    there = generate_file(model, TOKENIZER, ROWS, broken, settings)
    assert broken.read_bytes() == whole.read_bytes()
    lines = whole.read_bytes()[:cut].count(b"\n")
    assert there == lines - lines % settings.batch_size


def test_a_file_begun_in_another_way_is_refused(model, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    generate_file(model, TOKENIZER, ROWS, out, GREEDY)
    begun = b"".join(out.read_bytes().splitlines(keepends=True)[:4])
    out.write_bytes(begun)
    longer = replace(GREEDY, max_new_tokens=GREEDY.max_new_tokens + 1)
    with pytest.raises(ValueError, match="another max_new_tokens"):
        generate_file(model, TOKENIZER, ROWS, out, longer)
    adapted = get_peft_model(tiny_llama(TOKENIZER), ReftConfig(layers=[0]))
    with pytest.raises(ValueError, match="another adapter"):
        generate_file(adapted, TOKENIZER, ROWS, out, GREEDY)
    assert out.read_bytes() == begun
    (tmp_path / "out.jsonl.settings.json").unlink()
    with pytest.raises(ValueError, match="--overwrite"):
        generate_file(model, TOKENIZER, ROWS, out, GREEDY)


def test_lines_that_are_there_are_not_answered_again(model, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    generate_file(model, TOKENIZER, ROWS, out, GREEDY)
    lines = out.read_text().splitlines(keepends=True)
    marked = json.dumps({**json.loads(lines[0]), "output": "mark"}) + "\n"
    out.write_text("".join([marked, *lines[1:4]]))
    generate_file(model, TOKENIZER, ROWS, out, GREEDY)
    assert out.read_text().splitlines(keepends=True) == [marked, *lines[1:]]


def test_a_file_of_other_prompts_is_refused_and_left_alone(model, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    generate_file(model, TOKENIZER, ROWS.select([1, 2, 3]), out, GREEDY)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"out\.jsonl, line 1: .* does not belong"):
        generate_file(model, TOKENIZER, ROWS, out, GREEDY)
    with pytest.raises(ValueError, match=r"line 2: .* does not belong"):
        generate_file(model, TOKENIZER, ROWS.select([1]), out, GREEDY)
    with pytest.raises(FileExistsError, match="all 3 rows already"):
        generate_file(model, TOKENIZER, ROWS.select([1, 2, 3]), out, GREEDY)
    assert out.read_bytes() == before
    out.write_text("notes\n")
    with pytest.raises(ValueError, match="line 1: 'notes' is not an answer"):
        generate_file(model, TOKENIZER, ROWS, out, GREEDY)
    generate_file(model, TOKENIZER, ROWS, out, GREEDY, overwrite=True)
    assert len(out.read_text().splitlines()) == len(ROWS)


def test_a_prompt_that_cannot_be_answered_leaves_the_file_alone(model, tmp_path) -> None:
    rows = Dataset.from_list([{"prompt": "fox"}, {"prompt": "fox " * 300}])
    with pytest.raises(ValueError, match=r"row 2: a prompt of \d+ tokens and 6 new ones"):
        generate_file(model, TOKENIZER, rows, tmp_path / "out.jsonl", GREEDY)
    with pytest.raises(ValueError, match="row 1: the prompt is empty"):
        answers(model, rows=Dataset.from_list([{"prompt": " "}]))
    assert not list(tmp_path.iterdir())


def test_columns_of_the_same_name_are_kept(model, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    rows = Dataset.from_list([{"instruction": "a", "input": None, "output": "b\u2028c"}])
    for _ in range(2):
        generate_file(model, TOKENIZER, rows, out, GREEDY, overwrite=True)
        line = json.loads(out.read_text())
        assert (line["input_output"], sorted(line)) == (
            "b\u2028c",
            ["index", "input_output", "instruction", "output"],
        )
    with pytest.raises(FileExistsError):
        generate_file(model, TOKENIZER, rows, out, GREEDY)


@pytest.mark.parametrize("prompt", ["The quick", "What is 4? Smile: 🙂"])
def test_the_pieces_of_a_stream_are_the_answer(prompt) -> None:
    tokenizer = byte_level()
    model = tiny_llama(tokenizer)
    pieces: list[str] = []
    ids = encode_prompt(Rendered(prompt, None, False), tokenizer)
    settings = GenerationSettings(max_new_tokens=20)
    answer = stream(model, tokenizer, ids, pieces.append, settings)
    batch = next(generate_answers(model, tokenizer, [ids], settings))
    assert answer == batch[0]
    assert answer == "".join(pieces)
    assert len(pieces) > 3


@pytest.mark.parametrize("tokenizer", [byte_level(), metaspace()], ids=["bytes", "metaspace"])
def test_whole_characters_arrive_from_tokens_that_hold_a_part_of_one(tokenizer) -> None:
    from reftune.generation import _Pieces

    pieces: list[str] = []
    streamer = _Pieces(tokenizer, pieces.append)
    streamer.put(torch.tensor([[1, 2]]))
    for token in tokenizer("a🙂é", add_special_tokens=False)["input_ids"]:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert pieces == ["a", "🙂", "é"]


def test_draws_leave_the_global_generator_alone_and_depend_on_the_seed(model) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn = answers(model, DRAWN)
    assert torch.get_rng_state().equal(state)
    assert drawn == answers(model, DRAWN)
    assert drawn != answers(model, GenerationSettings(**{**vars(DRAWN), "seed": 1}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_new_tokens", 0), ("batch_size", 0), ("temperature", -1.0), ("top_p", 0.0)],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} {value}: expected"):
        GenerationSettings(**{name: value})


def test_peft_and_plain_models_are_taken(model) -> None:
    assert isinstance(model, PeftModel)
    assert len(answers(tiny_llama(TOKENIZER))) == len(ROWS)


def test_paths_may_be_text(model, tmp_path: Path) -> None:
    assert generate_file(model, TOKENIZER, ROWS.select([0]), str(tmp_path / "a.jsonl"), GREEDY) == 0
