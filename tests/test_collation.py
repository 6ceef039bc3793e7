"""Padding on either side, for training and for generation."""

import pytest
import torch

from reftune.collation import PaddingCollator
from tests.tiny_text import byte_level

ROWS = [
    {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]},
    {"input_ids": [8, 9], "labels": [-100, 9]},
]


@pytest.mark.parametrize(
    ("side", "ids", "labels", "mask"),
    [
        ("right", [8, 9, 0], [-100, 9, -100], [1, 1, 0]),
        ("left", [0, 8, 9], [-100, -100, 9], [0, 1, 1]),
    ],
)
def test_rows_are_padded_on_the_side_asked_for(side, ids, labels, mask) -> None:
    batch = PaddingCollator(byte_level(), padding_side=side)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7], ids]
    assert batch["labels"].tolist() == [[-100, 6, 7], labels]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], mask]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizer_decides_when_no_side_is_given(side: str) -> None:
    tokenizer = byte_level()
    tokenizer.padding_side = side
    expected = PaddingCollator(byte_level(), padding_side=side)(ROWS)
    batch = PaddingCollator(tokenizer)(ROWS)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_generation_batches_have_no_labels() -> None:
    batch = PaddingCollator(byte_level(), "left")([{"input_ids": [5]}, {"input_ids": [6, 7]}])
    assert sorted(batch) == ["attention_mask", "input_ids"]


def test_length_is_rounded_up_and_a_mask_of_the_row_is_kept() -> None:
    rows = [{**ROWS[0], "attention_mask": [0, 1, 1]}, ROWS[1]]
    batch = PaddingCollator(byte_level(), "right", pad_to_multiple_of=8)(rows)
    assert batch["input_ids"].shape == (2, 8)
    assert batch["attention_mask"][0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


def test_without_padding_token_the_end_token_fills() -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = None
    batch = PaddingCollator(tokenizer, "right")(ROWS)
    assert batch["input_ids"][1, 2] == tokenizer.eos_token_id


def test_wrong_batches_are_refused() -> None:
    with pytest.raises(ValueError, match='padding_side "middle"'):
        PaddingCollator(byte_level(), "middle")
    with pytest.raises(ValueError, match="1 of 2 rows have labels"):
        PaddingCollator(byte_level())([ROWS[0], {"input_ids": [1]}])
    with pytest.raises(ValueError, match="3 ids and 1 labels"):
        PaddingCollator(byte_level())([{"input_ids": [1, 2, 3], "labels": [1]}])
