"""The border between prompt and completion, labels, special tokens and truncation."""

import logging
from collections.abc import Callable

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from reftune.encoding import (
    IGNORED,
    encode,
    encode_completion,
    encode_dataset,
    encode_prompt,
)
from reftune.rendering import Rendered, render
from tests.tiny_text import SHARED, byte_level, metaspace


def shared(name: str) -> PreTrainedTokenizerBase:
    folder = SHARED / "models" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent (set REFTUNE_ASSETS)")
    return AutoTokenizer.from_pretrained(folder)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bytes": byte_level,
    "bytes_bos": lambda: byte_level(bos=True),
    "bytes_chat": lambda: byte_level(chat=True),
    "bytes_chat_bos": lambda: byte_level(chat=True, bos=True),
    "metaspace": metaspace,
    "metaspace_chat": lambda: metaspace(chat=True),
    "stories-260k": lambda: shared("stories-260k"),
    "tinystories-656k": lambda: shared("tinystories-656k"),
}
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": "That."},
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
]
ROWS = [
    {"prompt": "The quick brown", "completion": " fox"},
    {"prompt": "The quick brown ", "completion": "fox"},
    {"prompt": "The qui", "completion": "ck brown fox"},
    {"prompt": "What is the capital?\n", "completion": "\nParis"},
    {"prompt": "12 + 3", "completion": "4 = 46"},
    {"prompt": "Smile:", "completion": "🙂👨‍👩‍👧‍👦"},
    {"prompt": " leading", "completion": "trailing "},
    {"instruction": "Write.", "input": "", "output": "a response"},
    {"instruction": "Write.", "input": "the lazy dog", "output": "a response"},
    {"messages": TURNS},
]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


def rows_for(tokenizer: PreTrainedTokenizerBase) -> list[dict]:
    return ROWS if tokenizer.chat_template else ROWS[:-1]


def test_training_begins_with_the_very_ids_of_generation(tokenizer) -> None:
    for row in rows_for(tokenizer):
        asked = encode_prompt(render(row, tokenizer, answers=False), tokenizer)
        one = encode(render(row, tokenizer), tokenizer, 512)
        assert one.input_ids[: len(asked)] == asked
        assert one.labels == [IGNORED] * len(asked) + one.input_ids[len(asked) :]
        assert len(one.input_ids) > len(asked) > 0


def test_the_prompt_is_what_the_tokenizer_itself_gives(tokenizer) -> None:
    rendered = render({"prompt": "The fox", "completion": "x"}, tokenizer)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": "The fox"}]
        expected = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True
        )
    else:
        expected = tokenizer("The fox")
    assert encode_prompt(rendered, tokenizer) == expected["input_ids"]


def test_at_most_one_bos_and_exactly_one_eos(tokenizer) -> None:
    for row in rows_for(tokenizer)[:-1]:
        ids = encode(render(row, tokenizer), tokenizer, 512).input_ids
        assert ids.count(tokenizer.bos_token_id) <= 1
        assert ids.count(tokenizer.eos_token_id) == 1
        assert ids[-1] == tokenizer.eos_token_id


def test_an_eos_in_the_completion_is_not_doubled() -> None:
    tokenizer = byte_level()
    for text in ("fox</s>", "fox</s>\n"):
        ids = encode_completion(Rendered("The ", text, False), tokenizer)
        assert ids.count(tokenizer.eos_token_id) == 1
        assert ids[-1] == tokenizer.eos_token_id


def test_the_border_adds_no_text_of_its_own(tokenizer) -> None:
    for row in rows_for(tokenizer):
        rendered = render(row, tokenizer)
        ids = encode(rendered, tokenizer, 512).input_ids
        written = rendered.prompt + (rendered.completion or "").rstrip("\n")
        joint = tokenizer(written, add_special_tokens=False)["input_ids"]
        expected = tokenizer.decode(joint, skip_special_tokens=True)
        assert tokenizer.decode(ids, skip_special_tokens=True) == expected


def test_only_the_last_answer_of_a_chat_is_learned() -> None:
    tokenizer = byte_level(chat=True)
    one = encode(render({"messages": TURNS}, tokenizer), tokenizer, 512)
    learned = [label for label in one.labels if label != IGNORED]
    assert tokenizer.decode(learned) == "Paris</s>"


def test_chat_turns_of_the_three_forms_agree() -> None:
    tokenizer = byte_level(chat=True)
    ask = [{"role": "user", "content": "Why?\n\nSky"}, {"role": "assistant", "content": "So"}]
    forms = [
        {"prompt": "Why?\n\nSky", "completion": "So"},
        {"instruction": "Why?", "input": "Sky", "output": "So"},
        {"messages": ask},
    ]
    assert len({render(row, tokenizer) for row in forms}) == 1


def test_a_template_that_opens_generation_differently_keeps_the_border() -> None:
    tokenizer = byte_level(chat=True)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% if add_generation_prompt %}<|assistant|>",
        "{% if add_generation_prompt %}<|assistant|>Hm:",
    )
    rendered = render({"prompt": "Why?", "completion": "So"}, tokenizer)
    assert rendered.prompt.endswith("<|assistant|>Hm:")
    assert (rendered.completion or "").strip() == "So</s>"


def test_the_alpaca_prompt_is_used_without_a_chat_template() -> None:
    tokenizer = byte_level()
    row = {"instruction": "Do {this}.", "input": None, "output": "ok"}
    assert "### Input" not in render(row, tokenizer).prompt
    assert render(row, tokenizer).prompt.endswith("### Instruction:\nDo {this}.\n\n### Response:\n")
    with_input = render({**row, "input": "it"}, tokenizer).prompt
    assert with_input.endswith("Do {this}.\n\n### Input:\nit\n\n### Response:\n")


def test_templates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no chat template"):
        render(ROWS[0], byte_level(), "chat")
    with pytest.raises(ValueError, match='"messages" need a chat template'):
        render(ROWS[-1], byte_level())
    with pytest.raises(ValueError, match='"messages" need a chat template'):
        render(ROWS[-1], byte_level(chat=True), "plain")
    with pytest.raises(ValueError, match='template "chatty"'):
        render(ROWS[0], byte_level(), "chatty")  # type: ignore[arg-type]
    strict = byte_level(chat=True)
    strict.chat_template = "{{ raise_exception('no system turn here') }}"
    with pytest.raises(ValueError, match=r"row 5: .*no system turn here"):
        render(ROWS[0], strict, where="row 5")


def test_plain_on_request_ignores_the_chat_template() -> None:
    assert render(ROWS[0], byte_level(chat=True), "plain").prompt == "The quick brown"


@pytest.mark.parametrize("max_length", [2, 3, 5, 8, 13, 21, 60, 500])
def test_truncation_keeps_a_prompt_token_and_a_label(tokenizer, max_length: int) -> None:
    for row in rows_for(tokenizer):
        rendered = render(row, tokenizer)
        whole, cut = encode(rendered, tokenizer, 10_000), encode(rendered, tokenizer, max_length)
        prompt = whole.labels.count(IGNORED)
        kept = cut.labels.count(IGNORED)
        assert len(cut.input_ids) == len(cut.labels) == min(max_length, len(whole.input_ids))
        assert 1 <= kept == min(prompt, max_length - 1)
        assert cut.cut_prompt == (kept < prompt)
        assert cut.cut_completion == (len(whole.labels) - prompt > len(cut.labels) - kept)
        # The completion loses its end, the prompt its beginning: the border itself stays.
        assert cut.input_ids[kept:] == whole.input_ids[prompt : prompt + len(cut.labels) - kept]
        assert cut.input_ids[kept - 1] == whole.input_ids[prompt - 1]


def test_a_cut_prompt_keeps_the_special_tokens_that_open_it() -> None:
    tokenizer = byte_level(chat=True)
    row = {"prompt": "fox " * 50, "completion": "dog"}
    ids = encode(render(row, tokenizer), tokenizer, 12).input_ids
    assert tokenizer.convert_ids_to_tokens(ids[:2]) == ["<s>", "<|user|>"]
    assert tokenizer.convert_ids_to_tokens(ids)[10] == "<|assistant|>"


def test_max_length_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length 1: expected at least 2"):
        encode(render(ROWS[0], byte_level()), byte_level(), 1)


@pytest.mark.parametrize("chat", [False, True])
def test_rows_without_prompt_or_completion_are_counted_and_reported(chat, caplog) -> None:
    rows = [ROWS[0], {"prompt": " ", "completion": "x"}, {"prompt": "x", "completion": ""}]
    with caplog.at_level(logging.WARNING):
        encoded, dropped = encode_dataset(Dataset.from_list(rows), byte_level(chat=chat))
    assert (len(encoded), dropped.rows) == (1, 2)
    assert (dropped.empty_prompt, dropped.empty_completion) == (1, 1)
    assert "2 rows dropped" in caplog.text


def test_cut_rows_are_counted_and_nothing_is_reported_when_nothing_happened(caplog) -> None:
    rows = Dataset.from_list([ROWS[0], {"prompt": "a" * 99, "completion": "b" * 99}])
    _, dropped = encode_dataset(rows, byte_level(), max_length=30)
    assert (dropped.cut_prompt, dropped.cut_completion, dropped.rows) == (1, 1, 0)
    caplog.clear()
    _, dropped = encode_dataset(rows, byte_level(), max_length=300)
    assert not caplog.text


def test_no_row_left_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row is left to train on: 1 rows dropped"):
        encode_dataset(Dataset.from_list([{"prompt": "", "completion": "x"}]), byte_level())


def test_a_wrong_row_of_a_dataset_is_named() -> None:
    rows = Dataset.from_list([ROWS[0], {"prompt": "x", "completion": None}])
    with pytest.raises(ValueError, match="row 2: found the columns prompt"):
        encode_dataset(rows, byte_level())
