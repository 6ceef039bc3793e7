"""Where a checkpoint of pyreft lies: the folder of its files, or a repository of the hub."""

from pathlib import Path

from reftune.hub import fetch_from_hub
from reftune.pyreft.checkpoints.key_names import PREFIX, SUFFIX, parse_file_name
from reftune.pyreft.checkpoints.pickles import checked_file

CONFIG, MODEL = "config.json", "pytorch_model.bin"
TRAINER_FOLDER = "intervenable_model"
FILES = (f"{PREFIX}*{SUFFIX}", CONFIG, MODEL)


def fetch(name_or_folder: str | Path, local_directory: str | Path | None = None) -> Path:
    """Return a local folder as it is, or the copy of a repository of the hub.

    Args:
        name_or_folder: a folder, or a hub id such as `"owner/name"`.
        local_directory: where the copy goes; otherwise into the hub's cache.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
    """
    folder = Path(name_or_folder)
    if folder.exists():
        return folder
    name = str(name_or_folder)
    parts = name.split("/")
    if len(parts) > 2 or not all(parts) or name.startswith((".", "~")):
        raise FileNotFoundError(f'checkpoint "{name}": no such folder')
    patterns = [*FILES, *(f"{TRAINER_FOLDER}/{file}" for file in FILES)]
    return fetch_from_hub(name, patterns, "checkpoint", local_directory)


def find_folder(folder: str | Path) -> Path:
    """Return the folder that holds the files of the edits: the one given, or the one inside it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: neither holds an edit, or the one inside is a link that leads out.
    """
    given = Path(folder)
    if not given.is_dir():
        raise FileNotFoundError(f'checkpoint "{folder}": no such folder')
    inside = given / TRAINER_FOLDER
    if inside.is_symlink() and not inside.resolve().is_relative_to(given.resolve()):
        raise ValueError(f'"{inside}" leads out of its folder; it is not read')
    for place in (given, inside):
        if place.is_dir() and any(_is_edit(path) for path in place.iterdir()):
            return place
    inner = sorted({path.parent.name for path in given.glob(f"*/{TRAINER_FOLDER}")})
    hint = f"; its checkpoints are {', '.join(inner)}" if inner else ""
    raise ValueError(f'"{folder}" holds no intkey_*.bin, the files of pyreft{hint}')


def _is_edit(path: Path) -> bool:
    """Say whether a file calls itself an edit."""
    return path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)


def edit_files(folder: Path) -> dict[str, Path]:
    """Return the files of the edits by their keys, as pyvene 0.1.8 spells them.

    Raises:
        ValueError: a name is no key, two names are the same key, or a file is none or leads out of
            the folder.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_edit(path):
            continue
        name = parse_file_name(path.name)
        if name is None:
            raise ValueError(
                f'"{path}": expected a name such as '
                "intkey_layer_15_comp_block_output_unit_pos_nunit_1#0.bin"
            )
        if name.key in files:
            raise ValueError(f'"{path}" and "{files[name.key]}" are the same edit: expected one')
        files[name.key] = checked_file(path)
    return files
