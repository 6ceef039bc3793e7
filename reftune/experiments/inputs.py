"""What an experiment reads before anything is trained: its sets, and the folder to run it in."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reftune.experiments.experiment import Experiment
from reftune.tasks import ClassificationTask
from reftune.tasks.sets import RowSet, load_set, load_validation

SETTINGS = "experiment.json"


@dataclass(frozen=True)
class Inputs:
    """The sets of an experiment.

    Attributes:
        train: what is trained on.
        validation: what the best epoch is chosen by, if anything; halved in GLUE.
        tests: what is scored on, by name; empty if a half of `validation` is.
    """

    train: RowSet
    validation: RowSet | None = None
    tests: dict[str, RowSet] = field(default_factory=dict)

    def sets(self) -> dict[str, RowSet]:
        """Return all sets by name."""
        named = {"train": self.train, "validation": self.validation, **self.tests}
        return {name: one for name, one in named.items() if one is not None}

    def sha256(self) -> dict[str, str]:
        """Return a digest of every set."""
        return {name: one.sha256 for name, one in self.sets().items()}


def read_inputs(
    experiment: Experiment,
    data: str | Path,
    train_rows: int | None = None,
    test_rows: int | None = None,
) -> Inputs:
    """Read the sets of an experiment; arguments and errors as for `run_experiment`."""
    task = experiment.its_task
    train = load_set(task, data, experiment.training_set, "train").first(train_rows)
    names, validation = experiment.test_sets, None
    if isinstance(task, ClassificationTask):
        validation = load_validation(task, data)
        names = () if task.halves else names
    tests = {name: load_set(task, data, name, "test").first(test_rows) for name in names}
    inputs = Inputs(train, validation, tests)
    _check_apart(inputs)
    return inputs


def _check_apart(inputs: Inputs) -> None:
    """Check that no set is trained on, chosen by, or scored, and something else of these too.

    Raises:
        ValueError: two sets are one file, or have the same content.
    """
    train, validation = inputs.train, inputs.validation
    chosen = {} if validation is None else {"validation": validation}
    for name, one in {**inputs.tests, **chosen}.items():
        if _same(one, train):
            raise ValueError(f"{one.origin}: {name} is the training set too; expected another")
    for name, one in inputs.tests.items():
        if validation is not None and _same(one, validation):
            raise ValueError(f"{one.origin}: {name} is the validation set too; expected another")


def _same(one: RowSet, other: RowSet) -> bool:
    return one.origin == other.origin or one.sha256 == other.sha256


def settings_of(
    experiment: Experiment, inputs: Inputs, train_rows: int | None, test_rows: int | None
) -> dict[str, Any]:
    """Return what a run and its continuation must have in common."""
    settings = {
        "experiment": asdict(experiment),
        "sha256": inputs.sha256(),
        "train_rows": train_rows,
        "test_rows": test_rows,
    }
    return json.loads(json.dumps(settings))


def check_folder(out: Path, settings: dict[str, Any]) -> None:
    """Hold a folder against the experiment that is to be run in it; nothing is written.

    Raises:
        ValueError: it has another experiment.
        FileExistsError: it has something else.
    """
    if (out / SETTINGS).exists():
        known = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
        there = dict(_leaves({name: known.get(name) for name in settings}))
        here = dict(_leaves(settings))
        other = [name for name in there | here if there.get(name) != here.get(name)]
        if other:
            told = [f"{name} {there.get(name)!r:.60}, not {here.get(name)!r:.60}" for name in other]
            raise ValueError(
                f'"{out}" holds another experiment ({"; ".join(told[:3])}); expected the same, '
                "to go on with it, or another folder"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'output "{out}" is not empty; expected an empty folder')


def _leaves(settings: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested settings say, by names such as `experiment.training.lr`."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
