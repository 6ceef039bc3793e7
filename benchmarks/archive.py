"""The results of a device in one file, in which what is measured again replaces what was there."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.bars import judge
from benchmarks.rows import Row

RESULTS = Path(__file__).parent / "results"


@dataclass
class Archive:
    """What one file of results holds.

    Attributes:
        path: the file.
        about: machine, device, threads and seed; the same for all rows.
        versions: of what is measured, by environment.
        runs: by what was measured: `seconds` it took, `rounds` at most, environments `left out`.
        rows: of all runs.
    """

    path: Path
    about: dict[str, Any]
    versions: dict[str, dict[str, str]]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def replace(self, name: str, rows: list[Row], run: dict[str, Any], order: list[str]) -> None:
        """Take in what was measured under a name instead of what was there, and write the file.

        Args:
            order: all names, in the order of the report.
        """
        for row in rows:
            row.work = name
        place = {known: index for index, known in enumerate(order)}
        self.rows = [row for row in self.rows if row.work != name] + rows
        self.rows.sort(key=lambda row: place.get(row.work, len(place)))
        self.runs[name] = run
        self.save()

    def bars(self) -> list[dict[str, Any]]:
        """Return every bar with its value and verdict."""
        return judge(self.rows, self.about["device"])

    def save(self) -> None:
        """Write the file, with the verdicts on the bars."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        plain = {
            **self.about,
            "versions": self.versions,
            "runs": self.runs,
            "bars": self.bars(),
            "rows": [row.plain() for row in self.rows],
        }
        text = json.dumps(plain, indent=1, ensure_ascii=False)
        self.path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Archive:
    """Return what a file holds."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    names = {one.name for one in fields(Row)}
    rows = [Row(**{k: v for k, v in row.items() if k in names}) for row in plain.pop("rows")]
    for row in rows:  # JSON has no numbers for keys
        row.samples = {int(number): value for number, value in row.samples.items()}
    plain.pop("bars")
    return Archive(
        path, versions=plain.pop("versions"), runs=plain.pop("runs"), rows=rows, about=plain
    )


def open_archive(
    path: Path, about: dict[str, Any], versions: dict[str, dict[str, str]], fresh: bool
) -> Archive:
    """Return the archive that new rows go into: what the file holds, or an empty one.

    Raises:
        ValueError: the file is of another machine or of other versions.
    """
    if fresh or not path.exists():
        return Archive(path, about, versions)
    found = read(path)
    differing = [name for name, value in about.items() if found.about.get(name) != value]
    differing += [
        f"versions of {name}"
        for name, value in versions.items()
        if found.versions.get(name, value) != value
    ]
    if differing:
        raise ValueError(
            f"{path} differs in {', '.join(differing)}: its rows cannot be compared with new ones; "
            "--fresh starts the file anew, --out names another folder"
        )
    found.versions |= versions
    return found
