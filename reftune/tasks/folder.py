"""Finding the sets of a task in a folder, as LLM-Adapters lays it out."""

from pathlib import Path
from typing import Any

from reftune.data import read_json

SPLITS = {"train": ("train", "trainset"), "test": ("test",)}


def find_set(folder: str | Path, name: str, split: str) -> Path:
    """Return the file of a set: `NAME.json` or `NAME/test.json`, anywhere below a folder.

    Names are compared without case; `.jsonl` does as well.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    folder = Path(folder)
    if folder.is_file():
        return folder
    wanted = name.lower()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".json", ".jsonl") and _is_set(path, wanted, split)
    ]
    if not found:
        raise FileNotFoundError(
            f'"{folder}" has no {split} set {name}: expected {name}/{split}.json or {name}.json'
        )
    if len(found) > 1:
        raise ValueError(f'"{folder}" has {name} {len(found)} times: {", ".join(map(str, found))}')
    return found[0]


def _is_set(path: Path, name: str, split: str) -> bool:
    stem = path.stem.lower()
    return stem == name or (path.parent.name.lower() == name and stem in SPLITS[split])


def read_set(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a set: a list in JSON, or a row per line.

    Raises:
        ValueError: the file holds something else, or no row.
    """
    rows = read_json(path)
    for where, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, {where}: found {row!r:.60}; expected an object")
    if not rows:
        raise ValueError(f'"{path}" holds no rows; expected at least one')
    return [row for _, row in rows]
