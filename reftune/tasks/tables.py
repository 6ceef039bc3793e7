"""Files of labelled rows: TSV as GLUE writes it, CSV, JSON and Parquet."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets.exceptions import DatasetGenerationError

from reftune.data import read_json

Rows = list[dict[str, Any]]


def find_table(folder: str | Path, name: str, stems: Sequence[str]) -> Path:
    """Return the file of a set: `train.tsv`, `dev.csv` and so on, named without its ending.

    It is looked for in the folder, and in every folder below it that has the name of the task:
    `CoLA` and `SST-2` are the names `cola` and `sst2`. A file is taken as it is.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    folder = Path(folder)
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise FileNotFoundError(f'data "{folder}": no such folder or file')
    wanted = {stem.lower() for stem in stems}
    below = [path for path in folder.rglob("*") if path.is_dir() and _plain(path.name) == name]
    found = [
        path
        for place in (folder, *sorted(below))
        for path in sorted(place.iterdir())
        if path.stem.lower() in wanted and path.suffix.lower() in READERS and path.is_file()
    ]
    if not found:
        expected = ", ".join(f"{stems[0]}{suffix}" for suffix in READERS)
        other = f" (or {', '.join(stems[1:])})" if stems[1:] else ""
        raise FileNotFoundError(
            f'"{folder}" has no set {stems[0]} of {name}: expected one of {expected}{other} '
            f"in it or in a folder {name} below it"
        )
    if len(found) > 1:
        raise ValueError(
            f'"{folder}" has {stems[0]} of {name} {len(found)} times: {", ".join(map(str, found))}'
        )
    return found[0]


def _plain(name: str) -> str:
    return name.lower().replace("-", "")


def read_table(path: Path, header: Sequence[str] = ()) -> tuple[Rows, int]:
    """Read the rows of a file.

    Args:
        path: the file.
        header: what the columns of a TSV file are called, if its first line is a row already.

    Returns:
        The rows, and how many were left out: lines of a TSV file that are short of a cell, of which
        GLUE's QQP has some.

    Raises:
        ValueError: the file is of another kind, is torn, or holds no row.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f'"{path}": expected a file ending in {", ".join(READERS)}')
    try:
        rows, dropped = read(path, header)
    except UnicodeDecodeError as error:
        raise ValueError(f'"{path}" is not UTF-8 text ({error})') from None
    except csv.Error as error:
        raise ValueError(f'"{path}" cannot be read as a table ({error})') from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: found {row!r:.60}; expected an object")
    if not rows:
        raise ValueError(f'"{path}" holds no rows; expected at least one')
    return rows, dropped


def _read_tsv(path: Path, header: Sequence[str]) -> tuple[Rows, int]:
    # GLUE's quotation marks belong to the text.
    with path.open(encoding="utf-8-sig") as lines:
        names = None
        if header:
            first = lines.readline().rstrip("\n").split("\t")
            lines.seek(0)
            names = None if header[-1] in first else header
        rows = list(csv.DictReader(lines, names, delimiter="\t", quoting=csv.QUOTE_NONE))
    whole = [row for row in rows if None not in row.values()]
    return whole, len(rows) - len(whole)


def _read_csv(path: Path, header: Sequence[str]) -> tuple[Rows, int]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(
                f"{path}, row {number}: found {'more' if None in row else 'fewer'} cells than in "
                "the header; expected as many"
            )
    return rows, 0


def _read_json(path: Path, header: Sequence[str]) -> tuple[Rows, int]:
    return [row for _, row in read_json(path)], 0


def _read_parquet(path: Path, header: Sequence[str]) -> tuple[Rows, int]:
    try:
        rows = Dataset.from_parquet(str(path))
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise ValueError(f'"{path}" cannot be read as Parquet ({error})') from error
    return [dict(row) for row in rows if isinstance(row, dict)], 0


READERS: dict[str, Callable[[Path, Sequence[str]], tuple[Rows, int]]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
}
