"""Batches of pyreft's rows: locations stay on their tokens whatever the padding, errors else."""

import pytest
import torch

from reftune.pyreft.data import collators
from reftune.pyreft.data.data_modules import make_multiple_position_supervised_data_module
from reftune.pyreft.data.datasets import ReftRawDataset
from reftune.pyreft.data.preference_datasets import ReftRewardDataset
from tests.golden.pyreft.make_data import ROWS, batch, rows, tokenizer


def edited(made):
    """Return the ids at the locations of a batch, `(batch, interventions, positions)`."""
    lines = made["input_ids"][:, None].expand(-1, made["intervention_locations"].shape[1], -1)
    return lines.gather(2, made["intervention_locations"])


def both_sides(kind):
    """Return the batch of the same rows, padded on the left and on the right."""
    for side in ("left", "right"):
        words = tokenizer(padding_side=side)
        options = {"num_interventions": 2, "share_weights": True}
        if kind == "module":
            texts = ([row[name] for row in ROWS] for name in ("instruction", "output"))
            made = make_multiple_position_supervised_data_module(
                words, None, *texts, positions="f1+l2", **options
            )
        else:
            make = {"raw": ReftRawDataset, "reward": ReftRewardDataset}[kind]
            fields = {"conv_A_field": "output", "conv_B_field": "worse"}
            given = rows("pair") if kind == "reward" else ROWS
            made = make("task", None, words, dataset=given, position="f1+l2", **fields, **options)
        yield batch(collators, made, words)


@pytest.mark.parametrize("kind", ["module", "raw", "reward"])
def test_padding_on_the_left_moves_locations_with_their_tokens(kind):
    left, right = both_sides(kind)
    assert not torch.equal(left["input_ids"], right["input_ids"])
    assert torch.equal(edited(left), edited(right))


INSTANCES = [
    {"input_ids": [5, 6, 7, 8], "intervention_locations": [[0, 3]]},
    {"input_ids": [9, 5], "intervention_locations": [[1, -1]]},
]


def pad(side):
    def collate(instances):
        width = max(len(one["input_ids"]) for one in instances)
        gaps = [[0] * (width - len(one["input_ids"])) for one in instances]
        lists = [
            gap + one["input_ids"] if side == "left" else one["input_ids"] + gap
            for one, gap in zip(instances, gaps, strict=True)
        ]
        places = [one["intervention_locations"] for one in instances]
        return {
            "input_ids": torch.tensor(lists),
            "intervention_locations": torch.tensor(places),
        }

    return collate


@pytest.mark.parametrize("attached", [None, "left", "right"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_ids_tell_the_side_of_a_collator_of_ones_own(side, attached):
    collate = pad(side)
    if attached:
        collate.tokenizer = tokenizer(padding_side=attached)
    made = collators.ReftDataCollator(collate)(INSTANCES)
    second = [3, -1] if side == "left" else [1, -1]
    assert made["intervention_locations"].tolist() == [[[0, 3]], [second]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizer_tells_the_side_where_the_ids_do_not(side):
    collate = pad(side)
    collate.tokenizer = tokenizer(padding_side=side)
    padding = [{"input_ids": [0] * n, "intervention_locations": [[0]]} for n in (3, 1)]
    made = collators.ReftDataCollator(collate)(padding)
    assert made["intervention_locations"].tolist() == [[[0]], [[2 if side == "left" else 0]]]


def test_locations_beyond_the_width_of_the_batch_are_left_out():
    def collate(instances):
        return {"input_ids": torch.zeros(2, 10), "intervention_locations": torch.zeros(2, 4, 20)}

    made = collators.ReftDataCollator(collate)([{"input_ids": torch.zeros(10)}])
    assert made["intervention_locations"].shape == (2, 4, 10)


@pytest.mark.parametrize("places", [[[[0]], [[0, 1]]], [[[0]], [[0], [0]]], [[[0], [0, 1]]] * 2])
@pytest.mark.parametrize("make", [pad("right"), None])
def test_rows_with_different_numbers_of_positions_are_refused(places, make):
    collate = (
        collators.ReftDataCollator(make) if make else collators.ReftRewardCollator(tokenizer())
    )
    lines = [{"input_ids": [5, 6], "intervention_locations": one} for one in places]
    with pytest.raises(ValueError, match=r"expected (as many|a list per)"):
        collate(lines)


def test_rows_without_locations_are_refused():
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        collators.ReftDataCollator(lambda rows: {"input_ids": torch.zeros(1, 3)})([{}])


def test_the_rows_of_the_caller_keep_their_tensors():
    options = {"position": "l1", "num_interventions": 1}
    lines = list(ReftRawDataset("task", None, tokenizer(), dataset=ROWS, **options))
    collators.make_data_collator(tokenizer(), None)(lines)
    assert all(isinstance(line["labels"], torch.Tensor) for line in lines)


def test_a_loader_takes_what_it_is_given():
    lines = [{"input_ids": [5 + i], "intervention_locations": [[0]]} for i in range(32)]
    collate = collators.make_data_collator(tokenizer(), None)
    chosen = collators.make_dataloader(lines, 3, collate, False, [9, 2, 7, 0])
    assert [one["input_ids"][:, 0].tolist() for one in chosen] == [[14, 7, 12], [5]]
    torch.manual_seed(0)
    (mixed,) = collators.make_dataloader(lines, 32, collate, True)
    order = mixed["input_ids"][:, 0].tolist()
    assert order != sorted(order) == list(range(5, 37))
