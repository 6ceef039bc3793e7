"""Folders as `reftune run` and `reftune train` leave them, with numbers drawn from a seed."""

import json
import random
from pathlib import Path
from typing import Any

PARAMETERS = {"loreft": 18_444, "lora": 294_912, "dora": 313_344, "bitfit": 102_912, "probe": 0}
LEVEL = {"loreft": 0.81, "lora": 0.80, "dora": 0.805, "bitfit": 0.78, "probe": 0.62}


def write_run(folder: Path, task: str, method: str, seeds=(42, 43, 44), **more: Any) -> dict:
    """Write a run and return what its `result.json` says.

    Args:
        more: `sets`, a metric per test set; `model`, `options`, `parameters`, `level`, `leaked`;
            `logs`, whether there are losses.
    """
    draw = random.Random(f"{task} {method} {more.get('options')}")
    sets = more.get("sets", {task: "accuracy"})
    options, name = more.get("options", {}), method
    if method in ("loreft", "direft"):
        options, name = {"intervention": method, **options}, "reft"
    told = []
    for seed in seeds:
        one = folder / f"seed-{seed}"
        if more.get("logs"):
            write_log(one / "training.jsonl", draw, 60)
        write_answers(one / "answers", sets, seed)
        told.append(_seed(seed, draw, method, sets, more))
    result = {
        "experiment": {
            "task": task,
            "model": more.get("model", "FacebookAI/roberta-base"),
            "method": name,
            "adapter": options,
            "training": {"epochs": 10, "lr": 4e-4},
            "seeds": list(seeds),
        },
        "sha256": {"train": "5cc"},
        "train_rows": None,
        "environment": {"device": "x86_64", "torch": "2.13.0"},
        "seeds": told,
        "mean": {},
        "something_new": [1, {"x": 2}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))
    return result


def _seed(seed: int, draw: random.Random, method: str, sets: dict, more: dict) -> dict[str, Any]:
    level = more.get("level", LEVEL.get(method, 0.7))
    return {
        "seed": seed,
        "trainable": more.get("parameters", PARAMETERS.get(method, 50_000)),
        "head": 592_130,
        "rows": 8551,
        "steps": 60,
        "loss": draw.uniform(0.2, 0.3),
        "train_seconds": draw.uniform(100, 200),
        "memory_bytes": draw.randrange(900_000_000, 1_400_000_000),
        "test_seconds": 1.5,
        "scores": {
            name: {
                "metric": metric,
                "value": level + draw.uniform(-0.03, 0.03),
                "total": 522,
                "interval": [0.5, 0.9],
                "leaked": name in more.get("leaked", ()),
            }
            for name, metric in sets.items()
        },
    }


def write_log(file: Path, draw: random.Random, steps: int) -> None:
    """Write a `training.jsonl` of falling, noisy losses, with a few evaluations."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, steps + 1):
        loss = 0.2 + 2 * 0.95 ** (60 * step / steps) + draw.gauss(0, 0.1)
        lines.append({"step": step, "epoch": step / 20, "loss": loss, "lr": 1e-3, "seconds": step})
        if step % 20 == 0:
            lines.append({"step": step, "epoch": step / 20, "eval_loss": 0.5, "seconds": step})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_answers(folder: Path, sets: dict[str, str], seed: int) -> None:
    """Write eight questions of each test set, and their scored answers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sets:
        rows = [{"index": i, "prompt": f"Is {i} even, seed {seed}?"} for i in range(8)]
        scored = [
            {"output": f"answer {i}", "found": "true", "answer": str(i % 2 == 0), "right": i < 4}
            for i in range(8)
        ]
        for file, lines in ((f"{name}.jsonl", rows), (f"{name}.scored.jsonl", scored)):
            (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_training(folder: Path, finished: bool = True) -> None:
    """Write what `reftune train` leaves."""
    import torch
    from safetensors.torch import save_file

    write_log(folder / "training.jsonl", random.Random(str(folder.name)), 120)
    (folder / "recipe.json").write_text(json.dumps({"lr": 1e-3, "adapter.r": "4"}))
    if finished:
        save_file({"weight": torch.zeros(4, 16)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text("{}")
