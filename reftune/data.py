"""Rows of examples: where they come from and which form they have.

Knows files, columns and `datasets`; knows nothing of tokenizers or models. A row has one of three
forms, recognised by its columns (others are kept and ignored):

* ``prompt``, ``completion``: text
* ``messages``: a list of ``{"role": ..., "content": ...}``, the last one the assistant's
* ``instruction``, ``input`` (may be absent or empty), ``output``: text

For generation the answer may be missing: ``prompt`` alone, ``messages`` ending with the user's,
``instruction`` alone. A row that has the answer keeps it and is asked all the same.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError

Row = Mapping[str, Any]

# The order decides when a row fits several forms; it must be the same in training and in
# generation, or one row would be asked with two different prompts.
FORMS = {
    "prompt": ("prompt", "completion"),
    "messages": ("messages",),
    "instruction": ("instruction", "output"),
}
EXPECTED = '"prompt" + "completion", "messages", or "instruction" (+ "input") + "output"'
EXPECTED_PROMPTS = '"prompt", "messages", or "instruction" (+ "input")'


def form_of(columns: Iterable[str], answers: bool, where: str = "row") -> str:
    """Name the form of a row: ``"prompt"``, ``"messages"`` or ``"instruction"``.

    Args:
        columns: the names of the columns that hold something.
        answers: whether the answer is needed (training) or not (generation).
        where: the place to name in the error, such as ``"tips.jsonl, line 3"``.

    Raises:
        ValueError: no form fits; the message repeats the columns.
    """
    found = set(columns)
    for form, needed in FORMS.items():
        if found.issuperset(needed):
            return form
    if not answers:
        for form in ("messages", "prompt", "instruction"):
            if form in found:
                return form
    expected = EXPECTED if answers else EXPECTED_PROMPTS
    has = ", ".join(sorted(found)) or "nothing"
    raise ValueError(f"{where}: found the columns {has}; expected {expected}")


def check_row(row: Row, answers: bool, where: str = "row") -> str:
    """Return the form of one row after checking the types of its cells.

    Raises:
        ValueError: no form fits, a cell is not text, or the messages are not a chat.
    """
    form = form_of((name for name, cell in row.items() if cell is not None), answers, where)
    if form == "messages":
        _check_messages(row["messages"], answers, where)
        return form
    for name in (*FORMS[form], "input") if form == "instruction" else FORMS[form]:
        cell = row.get(name)
        if cell is not None and not isinstance(cell, str):
            raise ValueError(
                f'{where}: "{name}" is {cell!r:.60} ({type(cell).__name__}); expected text'
            )
    return form


def _check_messages(messages: Any, answers: bool, where: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'{where}: "messages" is {messages!r:.60}; expected a list of messages')
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise ValueError(
                f"{where}: the message {message!r:.60} is not of the form "
                '{"role": "user", "content": "text"}'
            )
    last = messages[-1]["role"]
    if answers and last != "assistant":
        raise ValueError(f"{where}: the last message is the {last}'s; expected the assistant's")


def load_rows(source: str | Path, split: str = "train", answers: bool = True) -> Dataset:
    """Read rows from a file, a folder of files, or the Hugging Face hub.

    Args:
        source: a JSONL, JSON (a list, or one object per line), CSV or Parquet file; a folder of
            those, read in the order of their names; or a hub id, ``"owner/name"`` or
            ``"owner/name:split"``. For ``answers=False`` also a ``.txt`` file with one prompt
            per line (blank lines are not prompts).
        split: the split of a hub dataset whose id names none.
        answers: whether every row needs its answer (training) or not (generation).

    Returns:
        The rows, with the columns as they were found.

    Raises:
        FileNotFoundError: neither a file, nor a folder, nor a dataset on the hub.
        ValueError: an unknown kind of file, no rows, or a row of no known form. The message names
            the file, the row, the columns found and those expected.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _READERS)
        if not files:
            kinds = ", ".join(_READERS)
            raise ValueError(f'the folder "{path}" holds no data; expected files ending in {kinds}')
        rows = concatenate_datasets([_read_file(file, answers) for file in files])
    elif path.is_file():
        rows = _read_file(path, answers)
    else:
        rows = _read_hub(str(source), split, answers)
    if not len(rows):
        raise ValueError(f'"{source}" holds no rows; expected at least one')
    return rows


def _read_file(path: Path, answers: bool) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".txt" and not answers:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return Dataset.from_dict({"prompt": [line for line in lines if line.strip()]})
    if suffix not in _READERS:
        kinds = ", ".join([*_READERS] if answers else [*_READERS, ".txt"])
        raise ValueError(f'"{path}" is of an unknown kind; expected a name ending in {kinds}')
    if suffix == ".parquet":
        rows = _read_parquet(path)
        if len(rows):
            form_of(rows.column_names, answers, f"{path}, row 1")
        return rows
    try:
        numbered = _READERS[suffix](path)
    except UnicodeDecodeError as error:
        raise ValueError(f'"{path}" is not UTF-8 text ({error})') from None
    for where, row in numbered:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, {where}: found {row!r:.60}; expected an object with columns")
        check_row(row, answers, f"{path}, {where}")
    rows = [row for _, row in numbered]
    # By column, with None for what a row lacks: `from_list` looks at the first row's keys only.
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def _read_jsonl(path: Path) -> list[tuple[str, Any]]:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows.append((f"line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
    return rows


def read_json(path: Path) -> list[tuple[str, Any]]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError:
        return _read_jsonl(path)
    if not isinstance(whole, list):
        return [("row 1", whole)]
    return [(f"row {number}", row) for number, row in enumerate(whole, start=1)]


def _read_csv(path: Path) -> list[tuple[str, Any]]:
    # Not by `datasets`: pandas would read "007" as 7 and "NA" as missing.
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = []
        try:
            read = list(csv.DictReader(lines))
        except csv.Error as error:
            raise ValueError(f'"{path}" cannot be read as CSV ({error})') from None
        for number, row in enumerate(read, start=1):
            if None in row or None in row.values():
                cells = sum(len(c) if isinstance(c, list) else c is not None for c in row.values())
                raise ValueError(
                    f"{path}, row {number}: found {cells} cells; "
                    f"expected {len(row) - (None in row)}, as in the header"
                )
            rows.append((f"row {number}", row))
    return rows


def _read_parquet(path: Path) -> Dataset:
    try:
        rows = Dataset.from_parquet(str(path))
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise ValueError(f'"{path}" cannot be read as Parquet ({error})') from error
    assert isinstance(rows, Dataset)
    return rows


_READERS: dict[str, Callable[[Path], Any]] = {
    ".jsonl": _read_jsonl,
    ".json": read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(source: str, split: str, answers: bool) -> Dataset:
    name, _, named_split = source.partition(":")
    if name.count("/") != 1 or not all(name.split("/")) or Path(name).suffix in (*_READERS, ".txt"):
        raise FileNotFoundError(
            f'"{source}": no such file or folder; expected a file, a folder, or a hub id '
            'such as "owner/name"'
        )
    try:
        rows = load_dataset(name, split=named_split or split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FileNotFoundError(
            f'"{source}": no such file or folder, and the hub gave no such dataset ({reason})'
        ) from error
    if not isinstance(rows, Dataset):
        kind = "several splits" if isinstance(rows, DatasetDict) else type(rows).__name__
        raise ValueError(f'"{source}" is {kind}; expected one split, as in "owner/name:train"')
    form_of(rows.column_names, answers, f'"{source}"')
    return rows
