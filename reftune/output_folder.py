"""The folder a training writes: what may be there before, what is there after.

``OUT/`` holds the adapter (``adapter_config.json``, ``adapter_model.safetensors``), the record of
the training (``recipe.json``, ``training.jsonl``, ``loss.png``) and ``OUT/checkpoints``, from which
an interrupted training goes on. The adapter's config is the last file written, so where it is, the
training has finished.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from safetensors import safe_open
from torch import Tensor

from reftune.divided import is_whole

Existing = Literal["refuse", "resume", "overwrite"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RECIPE, CHECKPOINTS = "recipe.json", "checkpoints"
LOG_FILE, PICTURE = "training.jsonl", "loss.png"
# A checkpoint that lacks one of these, or whose last written file is torn, was being written when
# the training died. Engines that divide a model write parts of it, under names of their own: FSDP
# `*_fsdp_0` and `optimizer_0` or `.bin`, DeepSpeed whatever `latest` names.
CHECKPOINT_STATE = (
    ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest"),
    ("scheduler.pt", "latest"),
    ("rng_state.pth", "rng_state_0.pth"),
)
DIVIDED_WEIGHTS = ("pytorch_model_fsdp_0", "latest")
CHECKPOINT_LAST = "trainer_state.json"
# How the rows of an update are shared out among processes.
SHARES = ("batch_size", "accumulation", "processes")


def check_output(out: Path, existing: Existing) -> Path | None:
    """Check a folder before a training; nothing is written or removed.

    Args:
        out: the folder; it need not exist.
        existing: what may be there. ``"refuse"`` wants nothing there, ``"resume"`` an interrupted
            training, ``"overwrite"`` takes whatever is there.

    Returns:
        The checkpoint to go on from, if there is one.

    Raises:
        FileExistsError: the folder holds something and ``existing`` is ``"refuse"``, or holds a
            finished adapter and ``existing`` is ``"resume"``.
        FileNotFoundError: nothing to resume.
        NotADirectoryError: ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'output "{out}" is a file; expected a folder')
    if existing == "resume":
        return _resume(out)
    if existing == "refuse":
        _refuse(out)
    return None


def _resume(out: Path) -> Path | None:
    if (out / CONFIG).exists():
        raise FileExistsError(
            f'output "{out}" holds a finished adapter; there is nothing to resume'
        )
    if not (out / RECIPE).exists():
        raise FileNotFoundError(f'output "{out}" holds no interrupted training to resume')
    return last_checkpoint(out / CHECKPOINTS)


def _refuse(out: Path) -> None:
    if (out / CONFIG).exists():
        raise FileExistsError(
            f'output "{out}" holds a finished adapter; expected an empty folder (or --overwrite)'
        )
    if (out / RECIPE).exists():
        raise FileExistsError(
            f'output "{out}" holds an interrupted training; --resume goes on with it, '
            "--overwrite starts anew"
        )
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(
            f'output "{out}" is not empty; expected an empty folder (or --overwrite)'
        )


def last_checkpoint(folder: Path, weights: tuple[str, ...] = (WEIGHTS,)) -> Path | None:
    """Return the newest whole checkpoint in ``folder``, or None.

    Half-written ones are passed over.

    Args:
        folder: that has the checkpoints.
        weights: the files that hold what was trained.
    """
    numbered = {
        int(path.name.removeprefix("checkpoint-")): path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit()
    }
    for step in sorted(numbered, reverse=True):
        if _is_whole(numbered[step], weights):
            return numbered[step]
    return None


def _is_whole(checkpoint: Path, weights: tuple[str, ...]) -> bool:
    wanted = [*((name, *DIVIDED_WEIGHTS) for name in weights), *CHECKPOINT_STATE]
    if not all(any((checkpoint / name).exists() for name in names) for names in wanted):
        return False
    try:
        json.loads((checkpoint / CHECKPOINT_LAST).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


def open_output(out: Path, existing: Existing, settings: Mapping[str, Any]) -> None:
    """Make the folder ready for a training with these settings.

    A new training removes what an earlier one left, adapter included, and stores its settings; a
    resumed one compares its settings with those stored.

    Raises:
        ValueError: a resumed training was started with other settings; names the first of them.
    """
    if existing == "resume":
        compare_settings(out, settings)
        return
    for name in (CONFIG, WEIGHTS, RECIPE, LOG_FILE, PICTURE):
        (out / name).unlink(missing_ok=True)
    if (out / CHECKPOINTS).exists():
        shutil.rmtree(out / CHECKPOINTS)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RECIPE, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def compare_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Hold these settings against those of the training in the folder.

    Raises:
        ValueError: they differ; names the first of them.
    """
    stored = json.loads((out / RECIPE).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(settings))
    # Another number of processes may go on. Batches of like length are made for so many of them.
    others = stored.get("processes", 1) != now.get("processes", 1)
    alike = _rows_per_update(stored) == _rows_per_update(now)
    if others and alike and not now.get("group_by_length"):
        stored, now = (_without_shares(named) for named in (stored, now))
    for name in sorted({*stored, *now}):
        if stored.get(name) != now.get(name):
            raise ValueError(
                f'cannot resume "{out}": {name} is {now.get(name)!r}, but the training there had '
                f"{stored.get(name)!r}"
            )


def _rows_per_update(settings: Mapping[str, Any]) -> int:
    return math.prod(settings.get(name, 1) for name in SHARES)


def _without_shares(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in SHARES}


def write_atomically(file: Path, text: str) -> None:
    """Write a text file so that at every moment the old or the new text is there, whole."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def save_adapter(
    model: PeftModel, out: Path, adapter: str = "default", state: dict[str, Tensor] | None = None
) -> None:
    """Write an adapter into ``out``, whatever its name, its config last.

    Args:
        model: that has it.
        out: the folder.
        adapter: its name.
        state: its tensors, if an engine has divided the model; see `reftune.divided.gathered`.

    Raises:
        ValueError: the tensors are not whole, and no others are given.
    """
    if state is None:
        _refuse_parts(model, adapter)
    partial = out / ".adapter.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial), selected_adapters=[adapter], state_dict=state)
    # PEFT puts an adapter of another name than "default" into a folder of that name.
    files = [path for path in partial.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == CONFIG):
        os.replace(path, out / path.name)
    shutil.rmtree(partial)
    if (out / CHECKPOINTS).is_dir() and not any((out / CHECKPOINTS).iterdir()):
        (out / CHECKPOINTS).rmdir()  # made even if none were wanted


def _refuse_parts(model: PeftModel, adapter: str) -> None:
    for name, parameter in model.named_parameters():
        if f".reft_edits.{adapter}." in name and not parameter.is_meta and not is_whole(parameter):
            raise ValueError(
                f"{name} is divided among processes: expected a state, from "
                "reftune.divided.gathered(model)"
            )


def measure_adapter(out: Path) -> tuple[int, int]:
    """Return how many parameters an adapter has, and its size on disk in bytes."""
    with safe_open(out / WEIGHTS, framework="np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]
    size = sum((out / name).stat().st_size for name in (CONFIG, WEIGHTS))
    return sum(map(math.prod, shapes)), size
