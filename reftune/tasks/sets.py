"""The sets of a task, wherever they are: in files, or on the hub."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reftune.tasks.classification import ClassificationTask
from reftune.tasks.folder import find_set, read_set
from reftune.tasks.hub import is_hub, read_hub_set
from reftune.tasks.tables import find_table, read_table
from reftune.tasks.task import Task


@dataclass(frozen=True)
class RowSet:
    """The rows of a set.

    Attributes:
        rows: as they are written.
        origin: where they are from, for errors.
        sha256: of the file, or of the rows of a set from the hub.
        dropped: torn lines that were left out.
        classes: names of the classes by index, if the set tells them.
    """

    rows: list[dict[str, Any]]
    origin: str
    sha256: str
    dropped: int = 0
    classes: tuple[str, ...] = ()

    def first(self, count: int | None) -> "RowSet":
        """Return the first rows only."""
        return replace(self, rows=self.rows[:count])

    def pick(self, chosen: Sequence[int]) -> "RowSet":
        """Return some of the rows, in this order."""
        return replace(self, rows=[self.rows[row] for row in chosen])


def load_set(task: Task | ClassificationTask, data: str | Path, name: str, split: str) -> RowSet:
    """Load a set of a task.

    Args:
        task: whose it is.
        data: a folder or a file, see `reftune.tasks.folder` and `reftune.tasks.tables`; or from the
            hub, see `reftune.tasks.hub`.
        name: of the set.
        split: `"train"`, `"validation"` or `"test"`: what the set is to be used for.

    Raises:
        FileNotFoundError: there is no such set.
        ValueError: there are several, or it cannot be read.
    """
    found = _load(task, data, name, split, optional=False)
    assert found is not None
    return found


def load_validation(task: ClassificationTask, data: str | Path) -> RowSet | None:
    """Load the validation set of a task, if there is one; the rest is as for `load_set`."""
    return _load(task, data, "validation", "validation", optional=not task.halves)


def _load(
    task: Task | ClassificationTask, data: str | Path, name: str, split: str, optional: bool
) -> RowSet | None:
    stems = task.splits.get(name, (name,)) if isinstance(task, ClassificationTask) else (split,)
    if is_hub(data):
        wanted = task.name if isinstance(task, ClassificationTask) else name
        found = read_hub_set(data, task.hub, wanted, stems, optional)
        if found is None:
            return None
        text = json.dumps(found.rows, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        labels = task.label if isinstance(task, ClassificationTask) else ()
        classes = next((found.classes[one] for one in labels if one in found.classes), ())
        return RowSet(found.rows, found.origin, digest, classes=classes)
    if isinstance(task, Task):
        path, dropped = find_set(data, name, split), 0
        rows = read_set(path)
    else:
        try:
            path = find_table(data, task.name, stems)
        except FileNotFoundError:
            if optional and Path(data).is_dir():
                return None
            raise
        rows, dropped = read_table(path, task.header)
    return RowSet(rows, str(path), hashlib.sha256(path.read_bytes()).hexdigest(), dropped)
