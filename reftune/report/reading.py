"""Finding what `reftune run` and `reftune train` left below a folder, and reading it."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from reftune.output_folder import CHECKPOINTS, CONFIG, LOG_FILE, RECIPE, measure_adapter
from reftune.report.runs import Run, run_of
from reftune.training_log import read_log

RESULT, BEGUN, SEARCH = "result.json", "experiment.json", "search.json"
SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class Curve:
    """The losses of a training, as `(step, loss in nats)`.

    Attributes:
        training: of the logged steps.
        held_out: of the evaluations.
    """

    training: tuple[tuple[int, float], ...]
    held_out: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Training:
    """A folder of `reftune train`.

    Attributes:
        folder: where it is.
        name: its path below the folder that was read.
        settings: what its `recipe.json` says; empty if there is none.
        curve: its losses.
        seconds: how long it took, or has taken.
        parameters: numbers in the file of the adapter; `None` before there is one.
        finished: whether the adapter was written.
    """

    folder: Path
    name: str
    settings: Mapping[str, Any]
    curve: Curve
    seconds: float | None
    parameters: int | None
    finished: bool


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        runs: of `reftune run`, by name.
        curves: of the runs, by the run's name and the seed's, `"seed 42"`.
        trainings: of `reftune train`, by name; those that belong to a run are not among them.
        problems: a sentence for everything that could not be read.
    """

    runs: tuple[Run, ...]
    curves: Mapping[str, Mapping[str, Curve]]
    trainings: tuple[Training, ...]
    problems: tuple[str, ...]


def read_folder(folder: str | Path) -> Found:
    """Read everything below a folder; what cannot be read is told in `Found.problems`.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        ValueError: there is nothing of reftune in it.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f'folder "{root}": not found; expected one with runs below it')
    if not root.is_dir():
        raise NotADirectoryError(f'"{root}" is a file; expected a folder with runs below it')
    runs, curves, trainings, problems = [], {}, [], []
    for here, folders, files in os.walk(root):
        path = Path(here)
        name = root.resolve().name if path == root else path.relative_to(root).as_posix()
        if SEARCH in files:
            folders.clear()  # its trials are no runs
            problems.append(f'"{name}": a search of `reftune tune`, which has a picture of its own')
            continue
        begun = RESULT in files or BEGUN in files
        # The trainings of a run are told with the run, and a checkpoint is part of a training.
        folders[:] = sorted(
            one
            for one in folders
            if one != CHECKPOINTS and not (begun and SEED_FOLDER.fullmatch(one))
        )
        try:
            if RESULT in files:
                runs.append(run_of(_json(path / RESULT), path, name))
                curves[name], unread = curves_of(runs[-1])
                problems += unread
            elif BEGUN in files:
                problems.append(f'"{name}": not finished; it has no {RESULT} yet')
            elif LOG_FILE in files:
                trainings.append(_training(path, name))
        except (ValueError, OSError) as error:
            problems.append(f'"{name}" cannot be read: {" ".join(str(error).split())}')
    if not (runs or trainings or problems):
        raise ValueError(
            f'"{root}" has nothing to report: expected {RESULT} of `reftune run` or {LOG_FILE} of '
            "`reftune train` somewhere below it"
        )
    return Found(tuple(runs), curves, tuple(trainings), tuple(problems))


def curves_of(run: Run) -> tuple[dict[str, Curve], list[str]]:
    """Return the losses of a run by seed, `"seed 42"`, and what could not be read."""
    curves, problems = {}, []
    for one in run.seeds:
        file = run.folder / f"seed-{one.seed}" / LOG_FILE
        if not file.is_file():
            continue
        try:
            curves[f"seed {one.seed}"], _ = read_curve(file)
        except (ValueError, OSError) as error:
            problems.append(f'"{run.name}", seed {one.seed}: {error}')
    return curves, problems


def read_curve(file: Path) -> tuple[Curve, float | None]:
    """Read a `training.jsonl`: its losses, and the seconds at its end.

    A torn last line is left out, and so are losses that are no finite numbers.

    Raises:
        ValueError: another line is not a record.
    """
    try:
        records = read_log(file)
    except ValueError:
        records = None
    if records is None or not all(isinstance(one, dict) for one in records):
        raise ValueError(f"{file.name}: a line is not a record; expected JSON objects")
    seconds = [one["seconds"] for one in records if _is_number(one.get("seconds"))]
    curve = Curve(_points(records, "loss"), _points(records, "eval_loss"))
    return curve, seconds[-1] if seconds else None


def _points(records: list[dict[str, Any]], name: str) -> tuple[tuple[int, float], ...]:
    return tuple(
        sorted(
            (one["step"], float(one[name]))
            for one in records
            if _is_number(one.get("step")) and _is_number(one.get(name))
        )
    )


def _is_number(value: Any) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and math.isfinite(value)


def _training(folder: Path, name: str) -> Training:
    settings = _json(folder / RECIPE) if (folder / RECIPE).exists() else {}
    if not isinstance(settings, dict):
        raise ValueError(f"{RECIPE}: found {settings!r:.60}; expected an object")
    curve, seconds = read_curve(folder / LOG_FILE)
    finished, parameters = (folder / CONFIG).exists(), None
    if finished:
        try:
            parameters, _ = measure_adapter(folder)
        except SafetensorError as error:
            raise ValueError(f"weights of the adapter: {error}") from error
    return Training(folder, name, settings, curve, seconds, parameters, finished)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not JSON, or is torn ({error})") from error
