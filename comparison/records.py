"""What was measured, kept in the repository: a JSON file for each cell of the table.

A file has what `reftune.experiments` says of a run, and what the search of the learning rate found.
One of other settings, data or weights than today's counts for nothing. So the table grows over
days and machines, and every number on the page has a file that says where it came from.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reftune.output_folder import write_atomically

WHY_NOT = "why_not"


def read_record(file: Path) -> dict[str, Any] | None:
    """Return what a file says; `None` if there is none, or no run came of it."""
    said = _read(file)
    return None if said is None or WHY_NOT in said else said


def why_not(file: Path) -> str | None:
    """Return why there is no run, if a file says so."""
    said = _read(file)
    return None if said is None else said.get(WHY_NOT)


def write_reason(file: Path, reason: str) -> None:
    """Note why something cannot be run: that a method does not fit is a result too."""
    _write(file, {WHY_NOT: reason})


def write_record(
    file: Path, result: Mapping[str, Any], model: Path, search: Mapping[str, float] | None = None
) -> None:
    """Keep the result of a run.

    Args:
        file: of its own.
        result: see `reftune.experiments.running.run_experiment`.
        model: folder of the base model.
        search: what each learning rate came to by validation, if several were tried.
    """
    told = {**result, "experiment": {**result["experiment"], "model": model.name}}
    for name in ("data", "model"):  # where they lie on this machine
        told.pop(name, None)
    told["model_sha256"] = weights_digest(model)
    _write(file, told if search is None else {**told, "search": dict(search)})


def is_of(record: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a record is of settings, sets and weights as they are today.

    Args:
        record: see `read_record`.
        settings: see `reftune.experiments.inputs.settings_of`.
    """
    model = Path(settings["experiment"]["model"])
    return (
        record["experiment"] == {**settings["experiment"], "model": model.name}
        and record["sha256"] == settings["sha256"]
        and record["model_sha256"] == weights_digest(model)
    )


@cache
def weights_digest(model: Path) -> str:
    """Return the SHA-256 of a base model's weights."""
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _write(file: Path, said: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(said, indent=1) + "\n")
