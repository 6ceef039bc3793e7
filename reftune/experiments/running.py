"""Running an experiment: training and scoring per seed, and one file that says what came of it.

`OUT/seed-42` is a training's folder: `adapter` has what was trained, `answers` the answers to the
test sets, `scores.json` all that is told of the seed. `OUT/result.json` is the last file written. A
run that was interrupted goes on where it stopped, because each of its parts does.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from reftune.assets import TINY_CHAT
from reftune.experiments.best_epoch import discard
from reftune.experiments.classification import Classification
from reftune.experiments.experiment import Experiment
from reftune.experiments.fitting import fit, forget
from reftune.experiments.inputs import SETTINGS, Inputs, check_folder, read_inputs, settings_of
from reftune.experiments.kinds import Kind
from reftune.experiments.language import Language
from reftune.experiments.loading import BUNDLED, Base, room
from reftune.experiments.means import means
from reftune.experiments.methods.method import Method
from reftune.experiments.model_files import version_of
from reftune.experiments.processor_time import processor_time
from reftune.experiments.trained_model import save_trained
from reftune.output_folder import LOG_FILE, write_atomically
from reftune.recipe import TrainingRecipe
from reftune.stopping import TrainingInterrupted
from reftune.tasks import Task

RESULT, RECORD, SCORES, ADAPTER = "result.json", "training.json", "scores.json", "adapter"
PROCESSOR = "processor_seconds.txt"
LIBRARIES = ("reftune", "torch", "transformers", "peft", "accelerate", "datasets")


def run_experiment(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    train_rows: int | None = None,
    test_rows: int | None = None,
    load: Callable[[int], Base] | None = None,
) -> dict[str, Any]:
    """Train and score an experiment over its seeds; of a finished one only its result is read.

    Args:
        experiment: what to run.
        data: a folder with the sets, see `reftune.tasks.folder` (language tasks) and
            `reftune.tasks.tables` (classification); or `hub`, `hub:OWNER/NAME` or
            `hub:OWNER/NAME:CONFIG`.
        out: folder for everything.
        train_rows: train on so many rows only, the first ones.
        test_rows: score only so many rows of each test set, the first ones.
        load: gives the base model of a seed, without adapters; by default it is loaded as the
            experiment says. It may give the same model every time, which is the same again when a
            seed is done; in classification the head is then the same for all seeds.

    Returns:
        What `result.json` says: the experiment, digests of the sets, `"model"` (which files, see
        `reftune.experiments.model_files`), `"data"`, the environment, per seed the training and
        `"scores"`, and `"mean"`, per test set the mean and deviation over seeds.

    Raises:
        ValueError: the folder has another experiment, a set has another form, or another number of
            parameters is trained than the recipe says.
        FileNotFoundError: a set is missing.
        TrainingInterrupted: a signal came; the same call goes on.
    """
    out = Path(out)
    inputs = read_inputs(experiment, data, train_rows, test_rows)
    settings = settings_of(experiment, inputs, train_rows, test_rows)
    check_folder(out, settings)
    if (out / RESULT).exists():  # which is written last
        return json.loads((out / RESULT).read_text(encoding="utf-8"))
    kind = kind_of(experiment, inputs, test_rows)
    # Not of a finished run: the digest of a large model takes a while.
    settings["model"] = None if load else version_of(experiment.model)
    check_folder(out, settings)
    load = load or kind.loader()
    with _no_false_start(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / SETTINGS, json.dumps(settings, indent=2) + "\n")
        seeds = [
            {"seed": seed, **run_seed(experiment, kind, load, out / f"seed-{seed}", seed)}
            for seed in experiment.seeds
        ]
    told = {"data": str(data), "environment": environment()}
    result = {**settings, **told, "seeds": seeds, "mean": means(seeds)}
    write_atomically(out / RESULT, json.dumps(result, indent=2) + "\n")
    return result


@contextmanager
def _no_false_start(out: Path) -> Iterator[None]:
    """Leave nothing behind of an error before the first step: it would be in the way afterwards."""
    there = out.exists()
    try:
        yield
    except Exception:
        begun = [path for name in (RECORD, LOG_FILE) for path in out.glob(f"seed-*/{name}")]
        if not begun:
            (out / SETTINGS).unlink(missing_ok=True)
            for seed in out.glob("seed-*"):
                shutil.rmtree(seed)
            if not there:
                out.rmdir()
        raise


def kind_of(experiment: Experiment, inputs: Inputs, test_rows: int | None) -> Kind:
    """Return the kind of an experiment, made for its sets."""
    task = experiment.its_task
    if isinstance(task, Task):
        return Language(experiment, task, inputs)
    return Classification(experiment, task, inputs, test_rows)


def run_seed(
    experiment: Experiment, kind: Kind, load: Callable[[int], Base], folder: Path, seed: int
) -> dict[str, Any]:
    """Train and score, now or before; return what to tell of a seed."""
    method, record, scored = experiment.its_method(), folder / RECORD, folder / SCORES
    if scored.exists():
        return json.loads(scored.read_text(encoding="utf-8"))
    base, is_trained = load(seed), record.exists()
    if is_trained:
        _clear(folder)
        model = method.load(base.model, folder / ADAPTER)
    else:
        set_seed(seed)
        model = method.attach(base.model, kind.task_type)
    try:
        if not is_trained:
            kind.check(model, base)
            check_count(experiment, method, base, model)
        recipe = experiment.recipe(seed)
        recipe = replace(recipe, max_length=room(model, recipe.max_length))
        if is_trained:
            told = json.loads(record.read_text(encoding="utf-8"))
        else:
            told = _train(experiment, kind, method, base, model, folder, recipe)
        told |= _score(kind, model, base, folder / "answers", recipe)
    finally:  # the model may be the caller's
        method.detach(model)
    write_atomically(scored, json.dumps(told, indent=2) + "\n")
    return told


def check_count(experiment: Experiment, method: Method, base: Base, model: Any) -> None:
    """Hold what is trained against the number that the recipe says, of its own model only.

    Raises:
        ValueError: it is another number.
    """
    count = method.count(model)
    names = (experiment.model, str(TINY_CHAT) if experiment.model == BUNDLED else "")
    own = experiment.trainable is not None and base.model.name_or_path in names
    if own and count != experiment.trainable:
        raise ValueError(f"{count:,} numbers are trained: expected {experiment.trainable:,}")


def _train(
    experiment: Experiment,
    kind: Kind,
    method: Method,
    base: Base,
    model: Any,
    folder: Path,
    recipe: TrainingRecipe,
) -> dict[str, Any]:
    """Train a model with a method's part on it, save it and the record of it."""
    folder.mkdir(parents=True, exist_ok=True)
    count = method.count(model)
    both = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows, dropped = kind.encode(base, recipe)
    best = kind.best_epoch(model, base, folder, recipe)
    with processor_time(folder / PROCESSOR) as spent:
        fitted = fit(model, rows, kind.collate(base), folder, recipe, [best] if best else [])
    if best is not None:
        best.restore()
    save_trained(experiment, method, model, folder / ADAPTER, kind.facts())
    told = {
        "trainable": count,
        "head": both - count,
        "rows": len(rows),
        "rows_dropped": dropped,
        "steps": fitted.steps,
        "loss": fitted.loss,
        "train_seconds": fitted.seconds,
        "processor_seconds": spent(),
        "memory_bytes": fitted.memory_bytes,
        **kind.describe_best(best),
    }
    write_atomically(folder / RECORD, json.dumps(told, indent=2) + "\n")
    _clear(folder)
    if fitted.stopped:
        raise TrainingInterrupted(f"stopped after the training of seed {recipe.seed}")
    return told


def _score(
    kind: Kind, model: Any, base: Base, answers: Path, recipe: TrainingRecipe
) -> dict[str, Any]:
    """Score a trained model, and say how long that took."""
    model.eval()
    answers.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    scores = kind.score(model, base, answers, recipe)
    return {"test_seconds": round(time.monotonic() - begun, 3), "scores": scores}


def _clear(folder: Path) -> None:
    """Remove what only a training that is not finished needs."""
    forget(folder)
    (folder / PROCESSOR).unlink(missing_ok=True)
    discard(folder)


def environment() -> dict[str, str]:
    """Return machine and versions, which a number is not worth much without."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    machine = {"device": device or platform.machine(), "python": platform.python_version()}
    return machine | {name: version(name) for name in LIBRARIES}
