"""Repositories of the Hugging Face hub: what may be the id of one, and a copy of some files."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

SECONDS = 10  # for an answer about a repository


def is_hub_id(name: str) -> bool:
    """Say whether a name may be that of somebody's repository, `"owner/name"`."""
    return name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~"))


def fetch_from_hub(
    name: str,
    files: Sequence[str],
    kind: str,
    local_folder: str | Path | None = None,
    most_bytes: int | None = None,
) -> Path:
    """Return a folder with files of a repository.

    Args:
        name: id of the repository.
        files: patterns of their names.
        kind: what they are, for the error.
        local_folder: where the copy goes; otherwise into the hub's cache, where it may be already.
        most_bytes: that the files may have together; `None` for any number. If the hub does not
            say how many they have, only what is in its cache is taken.

    Raises:
        FileNotFoundError: the hub gives no such repository, or its files are too large.
    """
    from huggingface_hub import snapshot_download

    try:
        size = None if most_bytes is None else _size(name, files)
        if size is not None and most_bytes is not None and size > most_bytes:
            raise ValueError(f"{size} bytes, expected {most_bytes} at most")
        unknown = most_bytes is not None and size is None
        patterns = list(files)
        found = snapshot_download(
            name, allow_patterns=patterns, local_dir=local_folder, local_files_only=unknown
        )
        return Path(found)
    # Errors of the client's transport are those of another library in each of its versions, and
    # some of them are no OSError.
    except Exception as error:
        why = f": {error}" if isinstance(error, ValueError) else ""
        raise FileNotFoundError(
            f'{kind} "{name}": no such folder, and the hub gave no such repository '
            f"({type(error).__name__}{why})"
        ) from error


def _size(name: str, files: Sequence[str]) -> int | None:
    """Return how many bytes some files of a repository have; None if the hub does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        about = HfApi().model_info(name, files_metadata=True, timeout=SECONDS)
    except RepositoryNotFoundError:
        raise
    except Exception:  # of the transport, as above; what was fetched before can still be had
        return None
    found = about.siblings or ()
    return sum(
        file.size or 0 for file in found if any(fnmatchcase(file.rfilename, p) for p in files)
    )
