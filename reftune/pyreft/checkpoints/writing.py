"""Writing a checkpoint as pyreft 0.1.0 and pyvene 0.1.8 do, whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import __version__ as transformers_version

from reftune.pyreft.checkpoints.checkpoint_config import MOST_VALUES
from reftune.pyreft.checkpoints.folders import CONFIG, FILES, MODEL
from reftune.pyreft.checkpoints.formulas import KEYS
from reftune.pyreft.checkpoints.key_names import file_name, keys_of


def write_checkpoint(
    folder: str | Path,
    config: Mapping[str, Any] | None,
    states: Mapping[str, Mapping[str, Tensor]],
    model_state: Mapping[str, Tensor] | None = None,
    clear: bool = False,
) -> None:
    """Write a folder that pyreft loads.

    Files of the same names are replaced, others stay, as in pyreft. On an error nothing is changed.

    Args:
        folder: where; made if it is not there.
        config: of `checkpoint_config`; `None` writes none, as `save_intervention` does.
        states: of `pyreft_state`, by the keys of the edits.
        model_state: what was trained of the model itself, for `pytorch_model.bin`; `None` writes
            none.
        clear: remove what an earlier checkpoint left in the folder.

    Raises:
        ValueError: a key cannot be the name of a file.
        OSError: the folder cannot be written.
    """
    for key in states:
        if Path(file_name(key)).name != file_name(key):
            raise ValueError(f"key {key!r}: expected one that can be the name of a file")

    def fill(partial: Path) -> None:
        for key, state in states.items():
            torch.save(_on_cpu(state), partial / file_name(key))
        if model_state is not None:
            torch.save(_on_cpu(model_state), partial / MODEL)
        if config is not None:
            text = json.dumps(config, indent=2, sort_keys=True)
            (partial / CONFIG).write_text(text + "\n", encoding="utf-8")

    write_whole(Path(folder), fill, last=CONFIG, stale=FILES if clear else ())


def write_whole(folder: Path, fill: Any, last: str, stale: Iterable[str] = ()) -> None:
    """Write files beside a folder first, and move them into it when all of them are there.

    Args:
        folder: where; made if it is not there.
        fill: called with an empty folder, writes the files into it.
        last: name of the file that is moved last.
        stale: patterns of files that are removed from the folder if they were not written anew.

    Raises:
        NotADirectoryError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'output "{folder}" is a file; expected a folder')
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        fill(partial)
        if not folder.exists():
            os.replace(partial, folder)
            return
        names = sorted((path.name for path in partial.iterdir()), key=lambda name: name == last)
        for path in [path for pattern in stale for path in folder.glob(pattern)]:
            if path.name not in names and path.is_file():
                path.unlink()
        for name in names:
            os.replace(partial / name, folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checkpoint_config(
    representations: Sequence[Sequence[Any]],
    classes: Sequence[type | str],
    widths: Sequence[int | None],
    constant_sources: Sequence[bool] | None = None,
    mode: str = "parallel",
) -> dict[str, Any]:
    """Return what pyvene writes into `config.json`.

    Args:
        representations: layer, component, unit, number of units and rank of each edit; further
            values, as pyvene has them, must be plain data, and may be left out.
        classes: of the interventions, see `class_text`.
        widths: their `embed_dim`.
        constant_sources: their `is_source_constant`, which is true for all of pyreft's own.
        mode: of the config.
    """
    values = [list(one) + [None] * (MOST_VALUES - len(one)) for one in representations]
    for one in values:
        one[5:7] = [None, None]  # the class and the module of the intervention are not data
    return {
        "intervention_constant_sources": list(constant_sources or [True] * len(values)),
        "intervention_dimensions": list(widths),
        "intervention_types": [class_text(one) for one in classes],
        "mode": mode,
        "representations": values,
        "sorted_keys": keys_of([(one[0], one[1], one[2], one[3]) for one in values]),
        "transformers_version": transformers_version,
    }


def class_text(intervention: type | str) -> str:
    """Return a class as pyvene writes it; pyreft's own as in pyreft, so that it finds them.

    Args:
        intervention: a class, or the name of one of pyreft's.
    """
    name = intervention if isinstance(intervention, str) else intervention.__name__
    ours = not isinstance(intervention, str) and intervention.__module__.startswith("reftune.")
    if name in KEYS and (ours or isinstance(intervention, str)):
        return f"<class 'pyreft.interventions.{name}'>"
    return str(intervention)


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of their own memory: a view would take the whole of what it looks at along."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
