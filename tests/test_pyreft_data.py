"""pyreft's data sets, data modules and collators give pyreft's values, and errors where it errs."""

import json
from functools import cache
from types import SimpleNamespace

import datasets
import pytest
import torch

from reftune.pyreft.data import collators, data_modules, positions, preference_datasets, templates
from reftune.pyreft.data import datasets as base
from reftune.pyreft.data import supervised_datasets as supervised
from tests.golden.pyreft.make_data import FIELDS, GOLDEN, ROWS, cases, rows, tokenizer

MODULES = (templates, collators, base, supervised, preference_datasets, data_modules, positions)
OURS = SimpleNamespace(**{name: value for one in MODULES for name, value in vars(one).items()})
SPOT = {"position": "l1", "num_interventions": 1}
TEXTS = [row["instruction"] for row in ROWS], [row["output"] for row in ROWS]


@cache
def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", [datasets.Dataset.from_list, list], ids=["Dataset", "list"])
def test_every_value_is_that_of_pyreft(given):
    values = cases(OURS, given)
    assert values.keys() == golden().keys()
    assert [name for name in values if values[name] != golden()[name]] == []


@pytest.mark.parametrize(
    "text", ["f7-l7", "x", "", "all", "3", "l1+f1", "f", "f1+", "f-1", "F1", None, 3]
)
def test_other_positions_are_refused(text):
    with pytest.raises(ValueError, match=r"expected e\.g\."):
        positions.parse_positions(text)
    with pytest.raises(ValueError, match=r"expected e\.g\."):
        base.ReftDataset("task", None, tokenizer(), dataset=[], position=text)


def test_a_third_part_of_the_positions_is_ignored_with_a_warning(caplog):
    assert positions.parse_positions("f2+l3+m1") == (2, 3)
    assert "'+m1' is ignored" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "f1+l1", "num_interventions": 3}, "num_interventions 3"),
        ({"first_n": 1}, "last_n None"),
        ({}, "first_n None"),
        ({"positions": "l1", "last_position": -1}, "last_position -1"),
    ],
)
def test_locations_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OURS.get_intervention_locations(**{"last_position": 5, "num_interventions": 2} | options)


def test_the_lists_of_locations_are_not_one_list():
    tied = OURS.get_intervention_locations(last_position=4, positions="l2", num_interventions=2)
    tied[0].append(9)
    assert tied[1] == [2, 3]


def test_a_length_may_be_a_tensor():
    options = {"positions": "f1+l3", "num_interventions": 2, "pad_mode": "last"}
    made = OURS.get_intervention_locations(last_position=torch.tensor(4), **options)
    assert json.dumps(made) == "[[0, 4, 4], [2, 3, 4]]"


KINDS = {
    "ReftClassificationDataset": ["input_field", "label_field"],
    "ReftGenerationDataset": ["prompt_field", "completion_field"],
    "ReftSupervisedDataset": [*FIELDS, "output_field"],
    "ReftPreferenceDataset": [*FIELDS, "chosen_output_field", "rejected_output_field"],
    "ReftRewardDataset": ["conv_A_field", "conv_B_field"],
    "ReftRawDataset": [],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_option_is_named(kind):
    options = {**SPOT, **dict.fromkeys(KINDS[kind], "instruction")}
    for name in ["position", *KINDS[kind]]:
        given = {key: value for key, value in options.items() if key != name}
        with pytest.raises(ValueError, match=f"{kind} got .*: expected {name}="):
            getattr(OURS, kind)("task", None, tokenizer(), dataset=ROWS, **given)


def raw(words=None, **options):
    return OURS.ReftRawDataset(
        "task", None, words or tokenizer(), **{"dataset": ROWS} | SPOT | options
    )


def test_a_tokenizer_without_padding_token_is_refused():
    with pytest.raises(ValueError, match=r"set tokenizer\.pad_token"):
        raw(tokenizer(pad_token=None))


def test_a_tokenizer_without_end_token_is_refused_where_it_is_needed():
    words = tokenizer(eos_token=None)
    with pytest.raises(ValueError, match=r"set tokenizer\.eos_token"):
        raw(words)
    assert len(raw(words, data_split="test")) == len(ROWS)
    with pytest.raises(ValueError, match="nonstop=True"):
        data_modules.make_last_position_supervised_data_module(words, None, *TEXTS)
    made = data_modules.make_last_position_supervised_data_module(words, None, *TEXTS, nonstop=True)
    assert len(made["train_dataset"]) == len(ROWS)


def test_nothing_is_cut_by_a_tokenizer_of_unknown_maximum():
    free = tokenizer(model_max_length=None)
    assert [row["input_ids"].tolist() for row in raw(free)] == [
        row["input_ids"].tolist() for row in raw()
    ]


def test_more_rows_than_there_are_are_refused():
    for given in (ROWS, datasets.Dataset.from_list(ROWS)):
        with pytest.raises(ValueError, match="max_n_example 5: expected at most 4"):
            raw(dataset=given, max_n_example=5)


def test_an_empty_prompt_is_refused():
    bare = tokenizer(bos=False)
    with pytest.raises(ValueError, match=r"inputs\[1\] ''"):
        data_modules.make_last_position_supervised_data_module(bare, None, ["Go", ""], ["a", "b"])
    options = {**SPOT, "prompt_field": "instruction", "completion_field": "output"}
    empty = [{"instruction": "", "output": "yes"}]
    with pytest.raises(ValueError, match="is the prompt empty"):
        OURS.ReftGenerationDataset("task", None, bare, dataset=empty, **options)


def test_inputs_and_outputs_must_be_as_many():
    with pytest.raises(ValueError, match="4 inputs and 3 outputs"):
        data_modules.make_multiple_position_supervised_data_module(
            tokenizer(), None, TEXTS[0], TEXTS[1][1:], num_interventions=2
        )


def test_rows_that_were_given_are_left_alone():
    given = rows("pair")
    options = {"prompt_field": "instruction", "conv_A_field": "output", "conv_B_field": "worse"}
    given = [row | {"output": "yes", "worse": "no"} for row in given]
    before = json.dumps(given)
    OURS.ReftRewardDataset("task", None, tokenizer(), dataset=given, **options, **SPOT)
    assert json.dumps(given) == before


def test_labels_that_are_the_text_are_a_copy_of_it():
    options = {**SPOT, "input_field": "instruction", "label_field": "instruction"}
    made = OURS.ReftClassificationDataset("task", None, tokenizer(), dataset=ROWS, **options)
    result, _ = made.tokenize(ROWS[0])
    result["labels"][:] = -1
    assert (result["input_ids"] >= 0).all()


def test_a_row_handed_out_is_a_copy():
    options = {**SPOT, "prompt_field": "instruction", "completion_field": "output"}
    made = OURS.ReftGenerationDataset("task", None, tokenizer(), dataset=ROWS, **options)
    made[0]["input_ids"][:] = -1
    assert (made[0]["input_ids"] >= 0).all()


@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("ReftDataset", "x.json", (("json",), {"data_files": "x.json", "split": "train"})),
        ("ReftDataset", "sub", (("hub", "sub"), {"split": "dev"})),
        ("ReftDataset", None, (("hub", None), {"split": "dev"})),
        ("ReftRawDataset", "x.json", (("json",), {"data_files": "x.json", "split": "dev"})),
        ("ReftRawDataset", "name", (("name",), {"split": "dev"})),
    ],
)
def test_rows_are_loaded_from_where_pyreft_loads_them(monkeypatch, capsys, kind, where, expected):
    calls = []
    monkeypatch.setattr(base, "load_dataset", lambda *a, **k: calls.append((a, k)) or [])
    made = getattr(OURS, kind)("hub", where, tokenizer(), data_split="dev", **SPOT)
    assert calls == [expected]
    assert capsys.readouterr().out == f"loading data for dataset:  {where}\n"
    assert made.raw_dataset == []


def test_rows_from_nowhere_are_refused():
    for kind in (base.ReftDataset, base.ReftRawDataset):
        with pytest.raises(ValueError, match="got no rows"):
            kind(None, None, tokenizer(), **SPOT)


def test_a_json_file_is_read(tmp_path):
    # The oldest supported datasets cannot read rows that lack a column.
    rows = [{name: row[name] for name in ("instruction", "output")} for row in ROWS]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    made = OURS.ReftRawDataset("task", str(tmp_path / "rows.json"), tokenizer(), **SPOT)
    assert [row["input_ids"].tolist() for row in made] == [
        row["input_ids"].tolist() for row in raw()
    ]


def test_a_subclass_may_fill_itself():
    class Own(base.ReftDataset):
        def __init__(self, numbers):
            super().__init__()
            self.numbers = numbers

        def __len__(self):
            return len(self.numbers)

        def __getitem__(self, i):
            return self.get_intervention_locations(
                last_position=self.numbers[i], first_n=1, last_n=0, num_interventions=1
            )

    assert [Own([5, 1])[i] for i in range(2)] == [[[0]], [[-1]]]


def test_a_subclass_without_tokenize_is_told():
    class Lacking(base.ReftDataset):
        pass

    with pytest.raises(NotImplementedError, match="Lacking has no tokenize"):
        Lacking("task", None, tokenizer(), dataset=ROWS, **SPOT)
