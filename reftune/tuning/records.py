"""What a search writes for people and for other commands, and what may be in its folder before."""

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from datasets import Dataset

from reftune.output_folder import write_atomically
from reftune.recipe import TrainingRecipe, digest_of
from reftune.tuning.plan import TuningPlan
from reftune.tuning.space import Range, Space
from reftune.tuning.study import is_complete, outcomes_of, setting_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SETTINGS, TRIALS, BEST, RESULT = "search.json", "trials.jsonl", "best.yaml", "result.json"
ADAPTER, PICTURE = "best", "tune.png"


def settings_of_search(
    model: Any, rows: Dataset, held_out: Dataset, space: Space, plan: TuningPlan
) -> dict[str, Any]:
    """Gather what a search and its continuation must have in common.

    Args:
        model: the base model.
        rows: encoded.
        held_out: encoded.
        space: what is searched.
        plan: how; the numbers of trials, minutes and seeds may change.
    """
    return json.loads(
        json.dumps(
            {
                "model": getattr(model, "name_or_path", ""),
                "dtype": str(model.dtype).removeprefix("torch."),
                "bits": str(getattr(model.config, "quantization_config", None)),
                "rows": digest_of(rows),
                "held-out rows": digest_of(held_out),
                "space": {n: vars(v) if isinstance(v, Range) else v for n, v in space.items()},
                "rungs": plan.rungs,
                "recipe": vars(plan.recipe),
            }
        )
    )


def open_search(out: Path, settings: dict[str, Any]) -> None:
    """Make a folder ready for a search, or for going on with the one in it.

    Raises:
        NotADirectoryError: it is a file.
        FileExistsError: it holds something else.
        ValueError: it holds another search; says what differs.
    """
    check_folder(out)
    file = out / SETTINGS
    if file.exists():
        there = json.loads(file.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if there.get(name) != value:
                raise ValueError(
                    f'"{out}" holds a search with another {_difference(name, there, value)}; '
                    "expected the same, to go on with it, or another folder"
                )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(settings, indent=2) + "\n")


def check_folder(out: Path) -> None:
    """Check that a folder is empty or holds a search.

    Raises:
        NotADirectoryError: it is a file.
        FileExistsError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'output "{out}" is a file; expected a folder')
    if out.exists() and not (out / SETTINGS).exists() and any(out.iterdir()):
        raise FileExistsError(f'output "{out}" is not empty; expected an empty folder, or a search')


def record_of(trial: "FrozenTrial", budgets: list[float]) -> dict[str, Any]:
    """Return the line of a finished trial in ``trials.jsonl``."""
    outcomes = outcomes_of(trial)
    loss = outcomes[-1]["loss"]
    state = "complete" if is_complete(trial) else "pruned" if math.isfinite(loss) else "diverged"
    return {
        "trial": trial.number,
        "state": state,
        "phase": trial.user_attrs["phase"],
        **vars(setting_of(trial)),
        "parameters": outcomes[-1]["parameters"],
        "epochs": budgets[len(outcomes) - 1],
        "loss": loss if math.isfinite(loss) else None,
        "rung_losses": [o["loss"] if math.isfinite(o["loss"]) else None for o in outcomes],
        "seconds": round(sum(one["seconds"] for one in outcomes), 3),
    }


def write_trials(out: Path, trials: "list[FrozenTrial]", budgets: list[float]) -> None:
    """Write ``trials.jsonl``, a line per finished trial in the order of their numbers."""
    lines = [json.dumps(record_of(trial, budgets)) + "\n" for trial in trials]
    write_atomically(out / TRIALS, "".join(lines))


def write_best(out: Path, best: "FrozenTrial", recipe: TrainingRecipe, adapter: Path) -> None:
    """Write ``best.yaml``, and copy the best trial's adapter into ``best/``."""
    job = yaml.safe_dump([setting_of(best).as_job(recipe)], sort_keys=False, allow_unicode=True)
    text = (
        f"# Trial {best.number}: held-out loss {best.value:.4g} nats per token. To train with it:\n"
        "# reftune train --model MODEL --data ROWS --out FOLDER --jobs THIS-FILE\n"
    )
    write_atomically(out / BEST, text + job)
    partial = out / f".{ADAPTER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(adapter, partial)
    shutil.rmtree(out / ADAPTER, ignore_errors=True)
    partial.rename(out / ADAPTER)


def _difference(name: str, there: dict[str, Any], value: Any) -> str:
    """Name what differs, down to the value where it is one of several."""
    before = there.get(name)
    if isinstance(value, dict) and isinstance(before, dict):
        for key in value:
            if before.get(key) != value[key]:
                return f"{name}: {key} {before.get(key)!r:.80}, not {value[key]!r:.80}"
    return name if name.endswith("rows") else f"{name} {before!r:.80}, not {value!r:.80}"
