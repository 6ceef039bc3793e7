"""The base model as it is, scored as the trained ones are: a line to hold the methods against."""

import json
from pathlib import Path
from typing import Any

from comparison.settings import NONE
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import read_inputs, settings_of
from reftune.experiments.language import Language
from reftune.experiments.running import RESULT, environment
from reftune.output_folder import write_atomically
from reftune.tasks import Task


def untrained_settings(experiment: Experiment, data: Path) -> dict[str, Any]:
    """Return the settings of an experiment of which only the base model is scored."""
    settings = settings_of(experiment, read_inputs(experiment, data), None, None)
    settings["experiment"] |= {"method": NONE, "adapter": {}, "training": {}, "seeds": [0]}
    return settings


def score_untrained(experiment: Experiment, data: Path, out: Path) -> dict[str, Any]:
    """Score the base model of an experiment on its test sets; of a finished run only read.

    Args:
        experiment: of a language task; its method and seeds are not used.
        data: folder of its sets.
        out: gets the answers and a `result.json` like that of a run, with one seed.
    """
    file = out / RESULT
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    task = experiment.its_task
    assert isinstance(task, Task)
    kind = Language(experiment, task, read_inputs(experiment, data))
    base, answers = kind.loader()(0), out / "seed-0" / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    scores = kind.score(base.model, base, answers, experiment.recipe(0))
    seed = {"seed": 0, "trainable": 0, "scores": scores}
    told = untrained_settings(experiment, data)
    result = {**told, "environment": environment(), "seeds": [seed]}
    write_atomically(file, json.dumps(result, indent=2) + "\n")
    return result
