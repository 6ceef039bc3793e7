"""Rows, their forms, and what the errors say."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from reftune.data import check_row, load_rows

PAIRS = [{"prompt": "one", "completion": "1"}, {"prompt": "two", "completion": "007"}]
CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows in the form that the name of the file says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".csv":
        Dataset.from_list(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        write_jsonl(path, rows)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.JSONL"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert load_rows(write(tmp_path / name, PAIRS)).to_list() == PAIRS


def test_one_object_per_line_in_a_file_called_json(tmp_path: Path) -> None:
    assert load_rows(write_jsonl(tmp_path / "a.json", PAIRS)).to_list() == PAIRS


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", PAIRS[:1])
    write(tmp_path / "a.parquet", PAIRS[1:])
    (tmp_path / "notes.md").write_text("no rows")
    assert load_rows(tmp_path)["prompt"] == ["two", "one"]


def test_cells_stay_as_written_in_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('prompt,completion\n"NA","a, ""b""\nc"\n1.50,true\n')
    assert load_rows(file).to_list() == [
        {"prompt": "NA", "completion": 'a, "b"\nc'},
        {"prompt": "1.50", "completion": "true"},
    ]


def test_rows_may_have_different_further_columns(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "input": "c", "output": "d"}]
    loaded = load_rows(write(tmp_path / "a.jsonl", rows)).to_list()
    assert [row["input"] for row in loaded] == [None, "c"]


def test_prompts_for_generation_need_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\n\nsecond\n")
    assert load_rows(tmp_path / "a.txt", answers=False)["prompt"] == ["first", "second"]
    alone = {"messages": CHAT["messages"][:1]}
    for row in ({"prompt": "x"}, {"instruction": "x"}, alone, CHAT, PAIRS[0]):
        assert load_rows(write(tmp_path / "a.jsonl", [row]), answers=False).to_list() == [row]


def test_one_row_has_the_same_form_in_training_and_in_generation() -> None:
    both = {"prompt": "x", "instruction": "y", "output": "z", **CHAT}
    for row in (both, {**both, "completion": "c"}, {"prompt": "x", **CHAT}):
        assert check_row(row, answers=True) == check_row(row, answers=False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "x", "answer": "y"}, ["answer, question", "prompt", "messages"]),
        ({"prompt": "x"}, ["found the columns prompt;", "completion"]),
        ({"prompt": "x", "completion": None}, ["found the columns prompt;"]),
        ({"prompt": "x", "completion": 3}, ["completion", "3 (int)"]),
        ({"instruction": "x", "output": "y", "input": 1}, ["input", "1 (int)"]),
        ({"messages": "hello"}, ["messages", "hello"]),
        ({"messages": [{"role": "user"}]}, ["role", "content"]),
        ({"messages": [{"role": "user", "content": "hi"}]}, ["last message is the user's"]),
        (["prompt", "completion"], ["expected an object"]),
    ],
)
def test_a_wrong_row_is_named_with_file_line_and_columns(tmp_path: Path, row, says) -> None:
    file = write_jsonl(tmp_path / "tips.jsonl", [PAIRS[0], row])
    with pytest.raises(ValueError, match=r"tips\.jsonl, line 2: ") as caught:
        load_rows(file)
    assert all(text in str(caught.value) for text in says)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"prompt": "x", "completion": "y"}\n{"prompt": ', "line 2: not JSON"),
        ("a.json", "[1, 2", "line 1: not JSON"),
        ("a.csv", "prompt,completion\na,b\nc\n", "row 2: found 1 cells; expected 2"),
        ("a.csv", "prompt,completion\na,b,c\n", "row 1: found 3 cells; expected 2"),
        ("a.csv", "question,answer\na,b\n", "row 1: found the columns answer, question"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
        ("a.jsonl", "", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "prompt,completion\n", "holds no rows"),
        ("a.xlsx", "x", "unknown kind"),
        ("a.txt", "x", "unknown kind"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="a\\.") as caught:
        load_rows(tmp_path / name)
    assert says in str(caught.value)


def test_wrong_columns_in_parquet_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [{"question": "x"}])
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: found the columns question"):
        load_rows(file)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(ValueError, match="not UTF-8"):
        load_rows(tmp_path / "a.jsonl")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        load_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(FileNotFoundError, match=r"data/nowhere\.jsonl"):
        load_rows("data/nowhere.jsonl")
    with pytest.raises(ValueError, match="holds no data"):
        load_rows(tmp_path)
