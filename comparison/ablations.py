"""What of LoReFT matters: one setting changed at a time, on three tasks, over the same seeds.

The learning rate is the one that the search found for LoReFT on the task: a variant that needs
another one is judged too low, which is said on the page.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparison.cells import FINAL, Cell, Places, run_or_go_on, slug
from comparison.records import is_of, read_record, write_record
from comparison.settings import METHODS, SEEDS, TASKS, Studied
from reftune.experiments.inputs import read_inputs, settings_of

# By the question that they answer; the first of each is LoReFT as it stands in the table.
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "rank": {"4": {}, **{str(rank): {"r": rank} for rank in (1, 2, 16)}},
    "layers": {
        "all": {},
        "first": {"layers": [0]},
        "middle": {"layers": [3]},
        "last": {"layers": [-1]},
        "every second": {"layers": [0, 2, 4, 6]},
    },
    "positions": {
        "as in the table": {},
        **{given: {"positions": given} for given in ("f1", "l1", "f5", "l5", "f7+l7", "all")},
    },
    "first and last": {"tied": {}, "untied": {"tied": False}},
    "formula": {
        "LoReFT": {},
        "NoReFT (not orthonormal)": {"intervention": "noreft"},
        "DiReFT": {"intervention": "direft"},
        "DiReFT, orthonormal": {"intervention": "direft_orthonormal"},
        "ConsReFT": {"intervention": "consreft"},
        "LobiReFT": {"intervention": "lobireft"},
    },
    "start": {"identity": {}, "as published": {"init": "paper"}},
    "dropout": {
        "none": {},
        "0.1 on the edit": {"dropout": 0.1},
        "0.1 on the state": {"dropout": 0.1, "dropout_on": "state"},
    },
}
ABLATED = ("Emoji answers", "SST-2", "Positive reviews")


@dataclass(frozen=True)
class Variant:
    """LoReFT with a setting changed, on a task."""

    studied: Studied
    question: str
    name: str

    @property
    def whole(self) -> Cell:
        """LoReFT as it stands in the table."""
        return Cell(self.studied, METHODS[self.studied.model][0])

    @property
    def cell(self) -> Cell:
        """The same with the change."""
        compared = self.whole.compared
        options = {**compared.options, **CHANGES[self.question][self.name]}
        return Cell(self.studied, replace(compared, name=self.name, options=options))

    def folder(self, out: Path) -> Path:
        names = (self.studied.name, self.question, self.name)
        return out.joinpath("ablations", *map(slug, names))

    def file(self, records: Path) -> Path:
        if not CHANGES[self.question][self.name]:
            return self.whole.file(records)
        return self.folder(records).with_suffix(".json")

    def why_not(self, base_models: Path) -> str | None:
        """Return why the change does not fit the model, if so."""
        return self.cell.why_not(base_models)

    def run(self, places: Places, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
        """Run the seeds with LoReFT's learning rate, which is searched if it is not known yet."""
        rate = self.whole.run(places, seeds)["experiment"]["training"]["lr"]
        data, file = self.whole.sets(places), self.file(places.records)
        experiment = self.cell.experiment(places.base_models, rate, seeds)
        settings = settings_of(experiment, read_inputs(experiment, data), None, None)
        known = read_record(file)
        if known is not None and is_of(known, settings):
            return known
        result = run_or_go_on(experiment, data, self.folder(places.out) / FINAL)
        write_record(file, result, places.base_models / self.studied.model)
        return read_record(file) or {}


def variants() -> Iterator[Variant]:
    """Yield all that are not in the table already."""
    for studied in (one for one in TASKS if one.name in ABLATED):
        for question, changes in CHANGES.items():
            yield from (Variant(studied, question, name) for name in changes if changes[name])
