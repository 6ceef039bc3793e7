"""A finetuned model in a folder: what its method wrote, and beside it what one must know of it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from reftune.experiments.experiment import Experiment
from reftune.experiments.methods import method_of
from reftune.experiments.methods.method import Method
from reftune.output_folder import write_atomically

FACTS = "finetuned.json"


def save_trained(
    experiment: Experiment, method: Method, attached: Any, folder: Path, facts: dict[str, Any]
) -> None:
    """Write what was trained.

    Args:
        experiment: whose model it is.
        method: of the experiment, which has attached something to the model.
        attached: the model with what the method put on it.
        folder: to write to.
        facts: more to know, see `reftune.experiments.kinds.Kind.facts`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    method.save(attached, folder)
    told = {
        "task": experiment.task,
        "model": experiment.model,
        "method": experiment.method,
        "options": experiment.adapter,
        "max_length": experiment.recipe(0).max_length,
        "dtype": experiment.dtype,
        **facts,
    }
    write_atomically(folder / FACTS, json.dumps(told, indent=2) + "\n")


def read_facts(folder: str | Path) -> dict[str, Any] | None:
    """Return what `save_trained` noted in a folder, or `None` if the folder has no such note.

    Raises:
        ValueError: the note is torn, or lacks something.
    """
    file = Path(folder) / FACTS
    if not file.is_file():
        return None
    needed = {"task", "model", "method", "options", "max_length"}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'"{file}" is not JSON ({error})') from None
    if not isinstance(told, dict) or not told.keys() >= needed:
        raise ValueError(f'"{file}": found {told!r:.80}; expected {", ".join(sorted(needed))}')
    return told


def load_trained(model: Any, folder: str | Path, facts: dict[str, Any]) -> Any:
    """Put what was trained back on its base model.

    Args:
        model: the base model; of a classifier with a head for the same labels.
        folder: that `save_trained` wrote.
        facts: that `read_facts` read there.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: the folder does not fit the model.
    """
    try:
        attached = method_of(facts["method"], facts["options"]).load(model, Path(folder))
    except (RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'"{folder}" cannot be put on the model ({reason})') from error
    return attached.eval()
