"""Positions select the tokens that SEMANTICS writes down, for every prompt length."""

import pytest
import torch

from reftune.positions import Positions
from tests.reference import edited_positions

SPECS = ["f1", "l1", "f3", "l3", "f1+l1", "f2+l5", "f7+l7", "all"]


def prompts() -> torch.Tensor:
    """All lengths up to 9, padded on both sides, and one prompt with a hole."""
    rows = torch.zeros(11, 14, dtype=torch.bool)
    for length in range(10):
        rows[length, 3 : 3 + length] = True
    rows[10, [0, 1, 5, 6, 13]] = True
    return rows


@pytest.mark.parametrize("spec", SPECS)
def test_slots_and_masks_select_what_the_rule_says(spec):
    places = Positions.parse(spec)
    marked = prompts()
    rank = marked.cumsum(1) - 1
    masks = places.masks(rank, marked.sum(1, keepdim=True))
    slots = places.slots(marked)
    for row, prompt in enumerate(marked):
        columns = prompt.nonzero()[:, 0]
        expected = [columns[wanted].tolist() for wanted in edited_positions(spec, len(columns))]
        for part in (0, 1):
            mask = masks[part][row] & prompt
            assert mask.nonzero()[:, 0].tolist() == expected[part]
            if spec != "all":
                column, used = (tensor[row] for tensor in slots[part])
                assert column[used].tolist() == expected[part]
                assert ((column >= 0) & (column < 14)).all()


@pytest.mark.parametrize("length", range(1, 20))
def test_first_and_last_never_overlap_and_the_last_token_is_always_edited(length):
    first, last = Positions.parse("f7+l7").counts(torch.tensor(length))
    assert first + last <= length
    assert last >= 1


@pytest.mark.parametrize("text", ["f7-l7", "f0", "l-1", "", "F1", "l1+f1", "f1+", " l1", "f01", 3])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match=r"expected e\.g\."):
        Positions.parse(text)
