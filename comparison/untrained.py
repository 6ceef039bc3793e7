"""What is not trained, and is scored as what is: a line to hold the methods against.

It is the base model as it is, or the one answer that would be best for all rows.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from comparison.settings import CONSTANT, NONE
from reftune.experiments.classification import Classification
from reftune.experiments.experiment import Experiment
from reftune.experiments.inputs import read_inputs, settings_of
from reftune.experiments.language import Language
from reftune.experiments.running import environment
from reftune.tasks import ClassificationTask, Task
from reftune.tasks.metrics import measure
from reftune.tasks.sets import RowSet


def untrained_settings(experiment: Experiment, data: Path, method: str) -> dict[str, Any]:
    """Return the settings of an experiment of which nothing is trained.

    Args:
        experiment: its method is not used, and its seeds only if halves of a set are scored.
        data: folder of its sets.
        method: `NONE` or `CONSTANT`.
    """
    settings = settings_of(experiment, read_inputs(experiment, data), None, None)
    seeds = [0] if method == NONE else list(experiment.seeds)
    told = {"method": method, "adapter": {}, "training": {}, "seeds": seeds}
    settings["experiment"] |= told
    return settings


def score_untrained(experiment: Experiment, data: Path, out: Path) -> dict[str, Any]:
    """Score the base model of an experiment on its test sets.

    Args:
        experiment: of a language task; its method and seeds are not used.
        data: folder of its sets.
        out: gets the answers; what lies there is removed.

    Returns:
        A result like that of a run, with one seed.
    """
    shutil.rmtree(out, ignore_errors=True)
    task = experiment.its_task
    assert isinstance(task, Task)
    kind = Language(experiment, task, read_inputs(experiment, data))
    base, answers = kind.loader()(0), out / "seed-0" / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    scores = kind.score(base.model, base, answers, experiment.recipe(0))
    seed = {"seed": 0, "trainable": 0, "scores": scores}
    told = untrained_settings(experiment, data, NONE)
    return {**told, "environment": environment(), "seeds": [seed]}


def score_one_answer(experiment: Experiment, data: Path) -> dict[str, Any]:
    """Score the one answer that is best for all rows of a test set, whatever the question.

    Of a correlation it is 0. The rows are those that the seeds of the experiment score.

    Returns:
        A result like that of a run.
    """
    task, inputs = experiment.its_task, read_inputs(experiment, data)
    if isinstance(task, Task):
        tests = [inputs.tests for _ in experiment.seeds]
    else:
        kind = Classification(experiment, task, inputs)
        tests = [kind.sets(seed)[1] for seed in experiment.seeds]
    found = [
        {"seed": seed, "trainable": 0, "scores": {n: _best(task, of) for n, of in sets.items()}}
        for seed, sets in zip(experiment.seeds, tests, strict=True)
    ]
    told = untrained_settings(experiment, data, CONSTANT)
    return {**told, "environment": environment(), "seeds": found}


def _best(task: Task | ClassificationTask, rows: RowSet) -> dict[str, Any]:
    if isinstance(task, Task):
        metric, answers = "accuracy", [row["answer"] for row in rows.rows]
    else:
        metric, answers = task.metric, [task.answer(row, rows.origin) for row in rows.rows]
    [(best, _)] = Counter(answers).most_common(1)
    return measure(metric, [best] * len(answers), answers)
