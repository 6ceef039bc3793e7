"""The tasks in which a classifier's head gives the answer: a class, or a number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reftune.data import Row
from reftune.tasks.labels import Labels, labels_of
from reftune.tasks.metrics import METRICS

# What the sets are called, in files and on the hub.
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True)
class ClassificationTask:
    """A task of text, or two texts, and label.

    Attributes:
        name: what recipes call it, and folders.
        source: where form and protocol are from.
        text, text_pair, label: columns that it may be in, the first that a row has is taken; a task
            of one text has no `text_pair`.
        needs_pair: whether a row without the second text is an error.
        names: of its classes; none if the training set decides, or numbers are predicted.
        metric: a name in `reftune.tasks.metrics.METRICS`; `"pearson"` is for numbers.
        tests: names of its test sets.
        halves: score on one half of the validation set, choose the best epoch on the other;
            otherwise there are test sets, and the whole validation set chooses.
        splits: what its sets may be called.
        header: names of the columns of a TSV file without a header, by the name of the file.
        hub: where its sets are on the hub, `"OWNER/NAME:CONFIG"`.
    """

    name: str
    source: str
    text: tuple[str, ...] = ("text",)
    text_pair: tuple[str, ...] = ("text_pair",)
    label: tuple[str, ...] = ("label",)
    needs_pair: bool = False
    names: tuple[str, ...] = ()
    metric: str = "accuracy"
    tests: tuple[str, ...] = ("test",)
    halves: bool = False
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: SPLITS)
    header: tuple[str, ...] = ()
    hub: str = ""
    train: tuple[str, ...] = ("train",)
    leaked: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r}: expected one of {', '.join(METRICS)}")

    def question(self, row: Row, where: str) -> dict[str, Any]:
        """Return the texts of a row, `"text"` and perhaps `"text_pair"`.

        Raises:
            ValueError: a text is missing, or is none.
        """
        cells = {"text": self._cell(row, self.text, where, True)}
        if self.text_pair:
            pair = self._cell(row, self.text_pair, where, self.needs_pair)
            cells |= {} if pair is None else {"text_pair": pair}
        for name, cell in cells.items():
            if not isinstance(cell, str):
                raise ValueError(
                    f'{where}: "{name}" is {cell!r:.60} ({type(cell).__name__}); expected text'
                )
        return cells

    def answer(self, row: Row, where: str) -> Any:
        """Return the label of a row as it is written.

        Raises:
            ValueError: there is none.
        """
        return self._cell(row, self.label, where, True)

    def labels(self, answers: list[Any], known: tuple[str, ...], where: str) -> Labels:
        """Say what is predicted.

        Args:
            answers: the labels of the training set as they are written.
            known: names of the classes, by the indices in `answers`, if the set tells them.
            where: the training set's name, for errors.

        Raises:
            ValueError: the labels do not fit the metric, or each other.
        """
        if self.metric == "pearson":
            return Labels()
        if self.names or known:
            return Labels(self.names or known, by_index=True)
        found = labels_of(answers, where)
        if not found.names:
            raise ValueError(
                f"{where}: the labels are numbers with a decimal point; expected classes for the "
                f'metric "{self.metric}", or a recipe that says metric: pearson'
            )
        return found

    def _cell(self, row: Row, names: tuple[str, ...], where: str, needed: bool) -> Any:
        for name in names:
            if row.get(name) is not None:
                return row[name]
        if needed:
            expected = " or ".join(f'"{name}"' for name in names)
            raise ValueError(
                f"{where}: a row of {self.name} with {', '.join(map(str, row)) or 'nothing'}; "
                f"expected {expected}"
            )
        return None


CLASSIFICATION = ClassificationTask(name="classification", source="rows of your own")
