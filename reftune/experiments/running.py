"""Running an experiment: training and scoring per seed, and one file that says what came of it.

`OUT/seed-42/adapter` is a training's folder, `OUT/seed-42/answers` has the answers to the test
sets, and `OUT/result.json` is the last file written. A run that was interrupted goes on where it
stopped, because each of its parts does.
"""

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import PreTrainedTokenizerBase, set_seed

from reftune.experiments.experiment import Experiment
from reftune.output_folder import CONFIG, RECIPE, write_atomically
from reftune.tasks.folder import find_set, read_set
from reftune.tasks.scoring import alpaca_eval_outputs, score_set
from reftune.training import train

RESULT, SETTINGS = "result.json", "experiment.json"
LIBRARIES = ("reftune", "torch", "transformers", "peft", "accelerate", "datasets")


def run_experiment(
    experiment: Experiment,
    base_model: Any,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path,
    out: str | Path,
    train_rows: int | None = None,
    test_rows: int | None = None,
) -> dict[str, Any]:
    """Train and score an experiment over its seeds.

    Args:
        base_model: without adapters; the same afterwards.
        data: folder with the sets, see `reftune.tasks.folder.find_set`.
        out: folder for everything.
        train_rows: train on so many rows only, the first ones.
        test_rows: ask only so many questions of each test set, the first ones.

    Returns:
        What `result.json` says.

    Raises:
        ValueError: the folder has another experiment, or another number of parameters is trained
            than the recipe says.
        FileNotFoundError: a set is missing; nothing was written.
    """
    out, task = Path(out), experiment.its_task
    files, settings = check_folder(experiment, data, out, train_rows, test_rows)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / SETTINGS, json.dumps(settings, indent=2) + "\n")
    examples = [
        task.example(row, f"{files['train']}, row {number}")
        for number, row in enumerate(read_set(files["train"])[:train_rows], start=1)
    ]
    tests = {name: read_set(files[name])[:test_rows] for name in experiment.test_sets}
    seeds = []
    for seed in experiment.seeds:
        folder = out / f"seed-{seed}"
        rows = Dataset.from_list(examples)
        model, trained = _trained(experiment, base_model, tokenizer, rows, folder, seed)
        scored = _scored(experiment, model, tokenizer, tests, folder / "answers")
        seeds.append({"seed": seed, **trained, **scored})
        model.unload()
    result = {**settings, "environment": environment(), "seeds": seeds, "mean": _means(seeds)}
    write_atomically(out / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def check_folder(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    train_rows: int | None,
    test_rows: int | None,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Find the sets, and check the folder that an experiment is to be run in; nothing is written.

    Arguments and errors as for `run_experiment`.

    Returns:
        The file of every set, and what a run and its continuation must have in common.
    """
    out = Path(out)
    files = {"train": find_set(data, experiment.training_set, "train")}
    files |= {name: find_set(data, name, "test") for name in experiment.test_sets}
    settings = {
        "experiment": asdict(experiment),
        "sha256": {name: _digest(path) for name, path in files.items()},
        "train_rows": train_rows,
        "test_rows": test_rows,
    }
    settings = json.loads(json.dumps(settings))
    if (out / SETTINGS).exists():
        there = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
        other = [name for name in settings if there.get(name) != settings[name]]
        if other:
            raise ValueError(
                f'"{out}" holds an experiment with another {", ".join(other)}; expected the same, '
                "to go on with it, or another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise FileExistsError(f'output "{out}" is not empty; expected an empty folder')
    return files, settings


def environment() -> dict[str, str]:
    """Return machine and versions, which a number is not worth much without."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    machine = {"device": device or platform.machine(), "python": platform.python_version()}
    return machine | {name: version(name) for name in LIBRARIES}


def _trained(
    experiment: Experiment,
    base_model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Dataset,
    folder: Path,
    seed: int,
) -> tuple[PeftModel, dict[str, Any]]:
    """Return the model with the adapter of a seed, trained now or before, and what to tell."""
    adapter, record = folder / "adapter", folder / "training.json"
    if (adapter / CONFIG).exists() and record.exists():
        model: Any = PeftModel.from_pretrained(base_model, str(adapter))
        return model, json.loads(record.read_text(encoding="utf-8"))
    set_seed(seed)
    model = get_peft_model(base_model, experiment.config())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # The recipe's number is that of its own model.
    own = experiment.trainable is not None and base_model.name_or_path == experiment.model
    if own and trainable != experiment.trainable:
        model.unload()
        raise ValueError(f"{trainable:,} numbers are trained: expected {experiment.trainable:,}")
    # An adapter without its record is trained again: it takes the record last.
    begun = (adapter / RECIPE).exists() and not (adapter / CONFIG).exists()
    existing = "resume" if begun else "overwrite"
    result = train(model, tokenizer, examples, adapter, experiment.recipe(seed), existing)
    told = {
        "trainable": trainable,
        "rows": result.rows,
        "rows_dropped": result.dropped.rows,
        "steps": result.steps,
        "loss": result.loss,
        "train_seconds": result.seconds,
    }
    write_atomically(record, json.dumps(told, indent=2) + "\n")
    return model, told


def _scored(
    experiment: Experiment,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    tests: Mapping[str, Sequence[dict[str, Any]]],
    answers: Path,
) -> dict[str, Any]:
    """Return the scores of an adapter; its answers are in a folder."""
    task, scores = experiment.its_task, {}
    answers.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for name, rows in tests.items():
        file = answers / f"{name}.jsonl"
        score = score_set(model, tokenizer, task, rows, file, experiment.settings())
        if score is None:
            _write_for_judge(file, rows, f"{Path(experiment.model).name}-reft")
            continue
        scores[name] = {
            "accuracy": score.accuracy,
            "right": score.right,
            "total": score.total,
            "interval": score.interval(),
            "leaked": name in task.leaked,
        }
    return {"test_seconds": round(time.monotonic() - begun, 3), "scores": scores}


def _write_for_judge(file: Path, rows: Sequence[dict[str, Any]], generator: str) -> None:
    with file.open(encoding="utf-8") as lines:
        answers = [json.loads(line)["output"] for line in lines]
    outputs = alpaca_eval_outputs(rows, answers, generator)
    text = json.dumps(outputs, indent=2, ensure_ascii=False)
    write_atomically(file.with_suffix(".alpaca_eval.json"), text)


def _means(seeds: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation over seeds, of each test set and of their average.

    Sets of which questions leaked into the training set are not in the average.
    """
    names = list(seeds[0]["scores"])
    values = {n: [seed["scores"][n]["accuracy"] for seed in seeds] for n in names}
    clean = [name for name in names if not seeds[0]["scores"][name]["leaked"]]
    if clean:
        by_seed = zip(*(values[name] for name in clean), strict=True)
        values["average"] = [statistics.mean(one) for one in by_seed]
    return {
        name: {
            "mean": statistics.mean(of),
            "deviation": statistics.stdev(of) if len(of) > 1 else None,
        }
        for name, of in values.items()
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
