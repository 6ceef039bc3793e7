"""What is predicted: one of some classes, or a number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Labels:
    """The labels of a task.

    Attributes:
        names: of the classes, in the order of the model's outputs; none if numbers are predicted.
        by_index: whether a whole number in the data is the index of a class; otherwise it is its
            name. One that is written as text is an index only if no class has that name.
    """

    names: tuple[str, ...] = ()
    by_index: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers the model's head returns."""
        return len(self.names) or 1

    def of(self, cell: Any, where: str) -> int | float:
        """Return the index of a class, or the number, that a cell says.

        Raises:
            ValueError: it says neither.
        """
        if not self.names:
            number = _number(cell)
            if number is None:
                raise ValueError(f"{where}: the label is {cell!r:.60}; expected a number")
            return number
        if isinstance(cell, bool):  # as `labels_of` reads it
            cell = int(cell)
        if str(cell) in self.names and not (self.by_index and isinstance(cell, int)):
            return self.names.index(str(cell))
        index = _whole(cell) if self.by_index else None
        if index is None or not 0 <= index < len(self.names):
            raise ValueError(
                f"{where}: the label is {cell!r:.60}; expected one of {', '.join(self.names)}"
            )
        return index


def labels_of(cells: Sequence[Any], where: str) -> Labels:
    """Read from the labels of a training set what is predicted.

    Whole numbers and texts are classes, in the order of number or alphabet. Numbers of which at
    least one is written with a decimal point are numbers.

    Raises:
        ValueError: a label is missing, or there is only one class.
    """
    for row, cell in enumerate(cells, start=1):
        if cell is None or cell == "" or isinstance(cell, list | dict):
            raise ValueError(f"{where}, row {row}: the label is {cell!r:.60}; expected one label")
    whole = [_whole(cell) for cell in cells]
    if None not in whole:
        names = [str(number) for number in sorted({n for n in whole if n is not None})]
    elif None not in [_number(cell) for cell in cells]:
        return Labels()
    else:
        names = sorted({str(cell) for cell in cells})
    if len(names) < 2:
        raise ValueError(f"{where}: found the labels {names}; expected at least two classes")
    return Labels(tuple(names))


def _whole(cell: Any) -> int | None:
    if isinstance(cell, int):
        return int(cell)
    try:
        return int(cell) if isinstance(cell, str) and str(int(cell)) == cell else None
    except ValueError:
        return None


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None
