"""Repositories of the Hugging Face hub: what may be the id of one, and a copy of some files."""

from collections.abc import Sequence
from pathlib import Path


def is_hub_id(name: str) -> bool:
    """Say whether a name may be that of somebody's repository, `"owner/name"`."""
    return name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~"))


def fetch_from_hub(
    name: str, files: Sequence[str], kind: str, local_folder: str | Path | None = None
) -> Path:
    """Return a folder with files of a repository.

    Args:
        name: id of the repository.
        files: patterns of their names.
        kind: what they are, for the error.
        local_folder: where the copy goes; otherwise into the hub's cache, where it may be already.

    Raises:
        FileNotFoundError: the hub gives no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), local_dir=local_folder))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f'{kind} "{name}": no such folder, and the hub gave no such repository '
            f"({type(error).__name__})"
        ) from error
