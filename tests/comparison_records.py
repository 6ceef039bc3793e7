"""Cells of the comparison by name, and records as far as its page reads them."""

import json
from pathlib import Path

from comparison.cells import Cell, cells
from comparison.settings import SEEDS

ENVIRONMENT = {"device": "a machine", "torch": "2.13.0"}


def named(task: str, method: str) -> Cell:
    [cell] = [c for c in cells() if (c.studied.name, c.compared.name) == (task, method)]
    return cell


def write_result(file: Path, rate: float, parameters: int, values: list[float]) -> None:
    """Write a record as far as the page reads it."""
    seeds = [
        {
            "seed": seed,
            "trainable": parameters,
            "processor_seconds": 10.0,
            "memory_bytes": 2_000_000,
            "validation": value,
            "scores": {"sst2": {"metric": "accuracy", "value": value, "total": 436}},
        }
        for seed, value in zip(SEEDS, values, strict=False)
    ]
    said = {"experiment": {"training": {"lr": rate}}, "environment": ENVIRONMENT, "seeds": seeds}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(said))
