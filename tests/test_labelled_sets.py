"""Labelled rows are read as they are written, from files of every kind and from the hub."""

import csv
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from reftune.tasks import TASKS, ClassificationTask
from reftune.tasks.classification import CLASSIFICATION
from reftune.tasks.hub import read_hub_set
from reftune.tasks.labels import Labels, labels_of
from reftune.tasks.sets import load_set, load_validation
from tests.tiny_classifiers import rows, write_rows


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["good", "bad", "good"], ("bad", "good")),
        ([0, 1, 1], ("0", "1")),
        (["10", "9", "9"], ("9", "10")),
        ([True, False], ("0", "1")),
        (["1", "x"], ("1", "x")),
        (["007", "7"], ()),
        ([0.0, 1.0], ()),
        (["0.5", "1"], ()),
        ([1, 2.5], ()),
    ],
)
def test_labels_are_classes_unless_a_number_has_a_decimal_point(cells, names):
    assert labels_of(cells, "x").names == names


@pytest.mark.parametrize(
    ("cells", "message"),
    [(["a", "a"], "two classes"), (["a", None], "row 2: the label is None"), (["a", ""], "row 2")],
)
def test_labels_that_are_none_are_an_error(cells, message):
    with pytest.raises(ValueError, match=message):
        labels_of(cells, "train.csv")


def test_what_a_label_says():
    named, stars = Labels(("no", "yes"), by_index=True), Labels(("1", "2", "5"))
    assert [named.of(cell, "") for cell in ("yes", 1, "1", "no")] == [1, 1, 1, 0]
    assert [stars.of(cell, "") for cell in (5, "5", 1)] == [2, 2, 0]
    assert Labels().of("2.5", "") == 2.5
    numbered = Labels(("1", "2", "3"), by_index=True)
    assert [numbered.of(cell, "") for cell in (0, 1, 2, "1", "3")] == [0, 1, 2, 0, 2]
    for labels, cell in ((named, 2), (named, -1), (stars, 0), (stars, "good"), (Labels(), "nan")):
        with pytest.raises(ValueError, match=r"row 7: the label is .*expected"):
            labels.of(cell, "row 7")


def test_a_file_of_every_kind_says_the_same(tmp_path):
    expected = rows(6)
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.json").write_text(json.dumps(expected))
    write_rows(tmp_path / "jsonl" / "train.jsonl", expected)
    (tmp_path / "parquet").mkdir()
    Dataset.from_list(expected).to_parquet(tmp_path / "parquet" / "train.parquet")
    for kind, separator in (("csv", ","), ("tsv", "\t")):
        (tmp_path / kind).mkdir()
        with (tmp_path / kind / f"train.{kind}").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter=separator)
            writer.writeheader()
            writer.writerows(expected)
    for kind in ("json", "jsonl", "parquet", "csv", "tsv"):
        found = load_set(CLASSIFICATION, tmp_path / kind, "train", "train")
        assert found.rows == expected, kind
        assert load_validation(CLASSIFICATION, tmp_path / kind) is None


def test_sets_of_the_hub_are_read_through_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    text = (
        'configs:\n- config_name: cola\n  data_files:\n  - {split: train, path: "c/t*.parquet"}\n'
    )
    text += '  - {split: validation, path: "c/v*.parquet"}\n'
    text += '- config_name: boolq\n  data_files: [{split: test, path: "b.parquet"}]\n'
    hub = tmp_path / "hub"
    (hub / "c").mkdir(parents=True)
    (hub / "README.md").write_text(f"---\n{text}---\n")
    kinds = Features({"sentence": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    given = [{"sentence": f"text {i}", "label": i % 2} for i in range(4)]
    for name in ("train", "valid"):
        Dataset.from_list(given, kinds).to_parquet(hub / "c" / f"{name}.parquet")
    Dataset.from_list([{"instruction": "Is it?", "answer": "true"}]).to_parquet(hub / "b.parquet")
    cola, language = TASKS["cola"], TASKS["commonsense"]
    assert isinstance(cola, ClassificationTask)
    found = load_set(cola, f"hub:{hub}", "train", "train")
    assert found.rows == given
    assert found.classes == ("no", "yes")
    assert found.sha256 == load_set(cola, f"hub:{hub}:cola", "train", "train").sha256
    validation = load_validation(cola, f"hub:{hub}")
    assert validation is not None
    assert len(validation.rows) == 4
    (row,) = load_set(language, f"hub:{hub}", "BoolQ", "test").rows
    assert row["answer"] == "true"
    with pytest.raises(FileNotFoundError, match="has the splits test; expected train"):
        load_set(language, f"hub:{hub}", "boolq", "train")
    with pytest.raises(ValueError, match="configs cola, boolq"):
        load_set(language, f"hub:{hub}", "piqa", "test")
    with pytest.raises(ValueError, match="no place of its own"):
        load_set(language, "hub", "piqa", "test")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_hub_set(f"hub:{tmp_path}/nowhere", "", "x", ("train",))
