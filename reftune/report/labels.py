"""Names that tell the runs of a board from each other."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from reftune.report.naming import method_name
from reftune.report.runs import Run

# What makes two runs different methods or boards already, or no difference at all.
APART = ("method", "task", "model", "seeds", "source", "adapter.intervention", "trainable")


def label_entries(runs: Sequence[Run]) -> list[str]:
    """Return a label per run: its method, and the settings by which others of the method differ.

    Where the settings do not tell two runs apart, their folders do.
    """
    told = [{**flat(run.experiment), **_rows(run)} for run in runs]
    of_method: dict[str, list[int]] = defaultdict(list)
    for number, run in enumerate(runs):
        of_method[run.method].append(number)
    labels = [method_name(run.method) for run in runs]
    for numbers in of_method.values():
        names = sorted({name for one in numbers for name in told[one]} - set(APART))
        names = [name for name in names if len({str(told[one].get(name)) for one in numbers}) > 1]
        for one in numbers:
            parts = [f"{_short(name)} {told[one].get(name, 'default')}" for name in names]
            labels[one] += f" ({', '.join(parts)})" if parts else ""
    twice = {label for label, count in Counter(labels).items() if count > 1}
    return [
        f"{label} in {run.name}" if label in twice else label
        for label, run in zip(labels, runs, strict=True)
    ]


def flat(said: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping, `{"adapter.r": 8}`."""
    result = {}
    for name, value in said.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{before}{name}.")
        else:
            result[f"{before}{name}"] = value
    return result


def _rows(run: Run) -> dict[str, Any]:
    names = ("train_rows", "test_rows")
    return {name: run.data[name] for name in names if run.data.get(name) is not None}


def _short(name: str) -> str:
    """Leave out the section that a setting is in, where it says nothing."""
    return name.removeprefix("adapter.").removeprefix("training.").replace("_", " ")
