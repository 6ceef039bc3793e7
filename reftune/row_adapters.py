"""Rows that name their adapter: in the column `adapter`, one of the sub-folders of a folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from peft.utils import CONFIG_NAME

from reftune.adapter_digest import folder_digest
from reftune.groups import BASE

COLUMN = "adapter"
DEFAULT = ""  # no folder has this name


@dataclass(frozen=True)
class RowAdapters:
    """The adapters of rows.

    Attributes:
        names: per row that of its adapter, or `"__base__"`.
        folders: of those that are named, by name.
    """

    names: list[str]
    folders: Mapping[str, Path]

    def digest(self) -> str:
        """Return the SHA-256 of all adapters with their names."""
        digest = hashlib.sha256()
        for name, folder in sorted(self.folders.items()):
            digest.update(f"{name}\n{folder_digest(folder)}\n".encode())
        return digest.hexdigest()


def adapters_of_rows(rows: Dataset, adapters: Path, default: Path | None = None) -> RowAdapters:
    """Find the adapter of every row.

    Args:
        rows: a row whose column is empty has the default.
        adapters: the folder in which adapters are.
        default: the folder of another one; the base model if `None`.

    Raises:
        FileNotFoundError: there is no such folder of adapters.
        ValueError: there is no such column, or a row names what is no adapter there.
    """
    if not adapters.is_dir():
        raise FileNotFoundError(f'adapters "{adapters}": there is no such folder')
    if COLUMN not in rows.column_names:
        has = ", ".join(rows.column_names)
        raise ValueError(f'the rows have the columns {has}: expected also "{COLUMN}"')
    there = {file.parent.name: file.parent for file in adapters.glob(f"*/{CONFIG_NAME}")}
    if default is not None:
        there[DEFAULT] = default
    empty = BASE if default is None else DEFAULT
    names = [empty if cell is None or cell == "" else cell for cell in rows[COLUMN]]
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str) or (name != BASE and name not in there):
            known = ", ".join(sorted(there)[:5]) or "none"
            raise ValueError(
                f'row {number}: {COLUMN} {name!r:.60}: expected one of those in "{adapters}" '
                f"({len(there)} of them: {known}{', ...' if len(there) > 5 else ''})"
            )
    return RowAdapters(names, {name: there[name] for name in sorted({*names} - {BASE})})
