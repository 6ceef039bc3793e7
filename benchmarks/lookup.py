"""The rows of a run, to be looked up by group, case and method."""

from dataclasses import dataclass
from typing import Any

from benchmarks.rows import Row, paired_ratio


@dataclass
class Results:
    """The rows of a run, to be looked up."""

    rows: list[Row]
    device: str

    def row(self, group: str, case: str, method: str) -> Row | None:
        """Return the measured row, or None."""
        for row in self.rows:
            if (row.group, row.case, row.method) == (group, case, method) and row.samples:
                return row
        return None

    def ratio(self, group: str, case: str, method: str, other: str) -> float | None:
        """Return the ratio of two methods in one case."""
        own, against = self.row(group, case, method), self.row(group, case, other)
        return paired_ratio(own.samples, against.samples) if own and against else None

    def worst(self, group: str, cases: list[str], method: str, other: str) -> float | None:
        """Return the highest ratio over the cases that were measured."""
        found = [self.ratio(group, case, method, other) for case in cases]
        return max((value for value in found if value is not None), default=None)

    def cases(self, group: str, start: str = "") -> list[str]:
        """Return the names of the cases of a group."""
        return list(
            dict.fromkeys(
                r.case for r in self.rows if r.group == group and r.case.startswith(start)
            )
        )

    def detail(self, group: str, case: str, method: str, name: str) -> Any:
        """Return a detail of a row, or None."""
        row = self.row(group, case, method)
        return row.details.get(name) if row else None
