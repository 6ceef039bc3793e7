"""Reading what pyreft and pyvene saved: a folder of one file per edit, with a config or without.

`ReftModel.save` writes `intkey_*.bin` and `config.json`; `ReftTrainer` writes no config, into
`checkpoint-50/intervenable_model`; both may add `pytorch_model.bin`, with what was trained of the
model itself. Nothing that a file names is imported, and a class is known by its name alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from reftune.pyreft.checkpoints.checkpoint_config import (
    UNTRAINED,
    Entry,
    entries_of,
    entry_of_name,
    read_config,
)
from reftune.pyreft.checkpoints.folders import CONFIG, MODEL, edit_files, find_folder
from reftune.pyreft.checkpoints.formulas import KEYS, classes_of, is_state_of
from reftune.pyreft.checkpoints.key_names import file_name, parse_file_name
from reftune.pyreft.checkpoints.pickles import MODEL_LIMIT, checked_file, read_tensors
from reftune.pyreft.checkpoints.saved import Checkpoint, SavedEdit, with_formula


def read_checkpoint(
    folder: str | Path,
    intervention: str | None = None,
    with_model: bool = True,
    formulas: bool = True,
) -> Checkpoint:
    """Read a checkpoint of pyreft, whole, onto the CPU.

    Args:
        folder: a local folder (`fetch` gets one from the hub): of `ReftModel.save`, of
            `save_intervention`, or a checkpoint of a Trainer, with or without `intervenable_model`.
        intervention: name of the class, where neither a config nor the tensors tell it, and in
            place of a class of one's own that has the tensors of one of pyreft's.
        with_model: read `pytorch_model.bin`, if there is one.
        formulas: read the matrices out of the states, for which the classes must be known;
            otherwise the edits have their states alone, and no class if no config tells it.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks a file that its config names.
        ValueError: a file is no save of pyreft's, or does not fit the others; or the class of an
            edit cannot be known, and the message says what to give.
    """
    found = find_folder(folder)
    files = edit_files(found)
    config = read_config(found / CONFIG)
    if config:
        entries = entries_of(config, found / CONFIG)
    else:
        names = [parse_file_name(path.name) for path in files.values()]
        entries = [entry_of_name(name) for name in names if name is not None]
        # Where pyreft has an edit each for first and last positions, all the first ones run before.
        entries.sort(key=lambda entry: (entry.occurrence, entry.layer or 0, entry.component))
    missing = [
        entry.key
        for entry in entries
        if entry.key not in files and entry.intervention not in UNTRAINED
    ]
    if missing:
        raise FileNotFoundError(
            f'"{found}" lacks {file_name(missing[0])}, which its {CONFIG} asks for; it has '
            f"{sorted(path.name for path in files.values())}"
        )
    edits = []
    for entry in entries:
        edit = _raw_edit(entry, files.get(entry.key, found / file_name(entry.key)))
        edits.append(_with_class(edit, entry, intervention) if formulas else edit)
    named = {entry.key for entry in entries}
    unused = tuple(path.name for key, path in sorted(files.items()) if key not in named)
    model_state = read_model_state(folder) if with_model else {}
    return Checkpoint(tuple(edits), model_state, bool(config), found, config, unused)


def _raw_edit(entry: Entry, file: Path) -> SavedEdit:
    """Read the file of an edit, if there is one, as tensors."""
    return SavedEdit(
        entry.key,
        entry.layer,
        entry.component,
        entry.occurrence,
        entry.intervention or "",
        *(None, None, None, None, ""),
        state=read_tensors(file) if file.exists() else {},
        module=entry.module,
        unit=entry.unit,
        units=entry.units,
        file=file,
        said_rank=entry.rank,
        said_width=entry.width,
    )


def _with_class(edit: SavedEdit, entry: Entry, intervention: str | None) -> SavedEdit:
    """Read the matrices of an edit, by the class that the config, the caller or the keys tell.

    Raises:
        ValueError: it is no state of that class, or the class cannot be known.
    """
    name = _class_of(entry, edit.file, edit.state, intervention)
    named_alike = entry.intervention == name and not edit.module.startswith(
        ("pyreft", "reftune.pyreft")
    )
    if name not in KEYS or (named_alike and not is_state_of(name, edit.state)):
        return replace(edit, intervention=name)
    edit = with_formula(edit, name)
    assert edit.weight is not None
    rank, width = edit.weight.shape
    if entry.rank not in (None, rank) or entry.width not in (None, width):
        raise ValueError(
            f'"{edit.file}" has rank {rank} and width {width}: expected rank {entry.rank} and '
            f"width {entry.width}, as its {CONFIG} says"
        )
    return edit


def _class_of(
    entry: Entry, file: Path, state: Mapping[str, Tensor], intervention: str | None
) -> str:
    """Return the name of an edit's class: what the config says, the caller, or the keys."""
    if entry.intervention is not None:
        if intervention in (None, entry.intervention):
            return entry.intervention
        if entry.intervention not in KEYS:
            return intervention
        raise ValueError(
            f'"{file}" is a {entry.intervention}, says its {CONFIG}: got '
            f"intervention={intervention!r}"
        )
    if intervention is not None:
        return intervention
    possible = classes_of(state)
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise ValueError(
            f'"{file}" may be a {" or a ".join(possible)}, whose files are alike, and there is no '
            f'{CONFIG}: expected intervention="{possible[0]}" or "{possible[1]}" to be given '
            "(--intervention)"
        )
    raise ValueError(
        f'"{file}" holds {sorted(state)}, which no intervention of pyreft saves, and there is no '
        f"{CONFIG}: expected the name of its class to be given (--intervention)"
    )


def read_states(folder: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read the states of a checkpoint by their keys, whatever classes they are of.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no edits, or a file that is no state.
    """
    files = edit_files(find_folder(folder))
    return {key: read_tensors(file) for key, file in files.items()}


def read_model_state(folder: str | Path) -> dict[str, Tensor]:
    """Read what was trained of the model itself: `pytorch_model.bin`, empty if there is none.

    Raises:
        ValueError: the file is no dict of tensors.
    """
    for place in dict.fromkeys((find_folder(folder), Path(folder))):
        if (place / MODEL).is_symlink() or (place / MODEL).exists():
            return read_tensors(checked_file(place / MODEL), MODEL_LIMIT)
    return {}
