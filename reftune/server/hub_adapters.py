"""Adapters of the Hugging Face hub that requests may name, fetched when one first does."""

import re
import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from reftune.hub import fetch_from_hub
from reftune.server.errors import Unavailable
from reftune.server.logs import tell

FILES = ("adapter_config.json", "adapter_model.safetensors")
# As the hub names things; neither half is ever a path of its own.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# Requests that wait for the hub, which is asked by one at a time; each holds one of the threads
# that all requests share.
MOST_WAITING = 8


class HubAdapters:
    """Folders of adapters by hub id. Safe to use from several threads.

    An adapter is fetched once, into the hub's cache, and stays what it was until the server starts
    again.

    Args:
        allowed: ids, or patterns of them such as ``"owner/*"``.

    Raises:
        ValueError: a pattern that no id can match.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        for pattern in allowed:
            if pattern != "*" and not _NAME.fullmatch(re.sub(r"[*?]|\[[^]/]*\]", "x", pattern)):
                raise ValueError(
                    f'allow-hub "{pattern}": expected e.g. owner/name, owner/* or * for all'
                )
        self._allowed = tuple(allowed)
        self._folders: dict[str, Path] = {}
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def names(self) -> list[str]:
        """Return those that were fetched."""
        return sorted(self._folders)

    def find(self, name: str) -> Path | None:
        """Return the folder of an adapter; None if it is not allowed, or the hub has none.

        Raises:
            Unavailable: too many requests wait for the hub already.
        """
        if (folder := self._folders.get(name)) is not None:
            return folder
        if not _NAME.fullmatch(name) or not any(fnmatchcase(name, p) for p in self._allowed):
            return None
        if not self._waiting.acquire(blocking=False):
            raise Unavailable("other adapters are being fetched from the hub; try again", "model")
        try:
            with self._turn:
                if name not in self._folders:
                    self._fetch(name)
        finally:
            self._waiting.release()
        return self._folders.get(name)

    def _fetch(self, name: str) -> None:
        try:
            folder = fetch_from_hub(name, FILES, "adapter")
        except FileNotFoundError as error:
            tell("hub", 30, model=name, error=str(error))
            return
        if all((folder / file).is_file() for file in FILES):
            self._folders[name] = folder
