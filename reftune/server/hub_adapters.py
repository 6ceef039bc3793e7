"""Adapters of the Hugging Face hub that requests may name, fetched when one first does."""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from reftune.hub import fetch_from_hub
from reftune.server.errors import Unavailable
from reftune.server.logs import tell

FILES = ("adapter_config.json", "adapter_model.safetensors")
# As the hub names things; neither half is ever a path of its own.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# Requests that wait for the hub; each holds one of the threads that all requests share.
MOST_WAITING = 8
MISS_SECONDS = 60  # until the hub is asked again for what it did not have
MOST_MISSES = 1000  # that are remembered
MOST_BYTES = 2**28  # of one adapter, so that nobody fills the disk with what is none


class HubAdapters:
    """Folders of adapters by hub id. Safe to use from several threads.

    An adapter is fetched once, into the hub's cache, and stays what it was until the server starts
    again, or that cache is cleaned.

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
        self._missed: OrderedDict[str, float] = OrderedDict()  # when, by name
        self._turns: dict[str, threading.Lock] = {}  # of names that are being fetched
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def names(self) -> list[str]:
        """Return those that were fetched and are allowed by their whole id.

        What a pattern allows is not told: others would learn who asks for what, and what private
        repositories there are.
        """
        return sorted(name for name in {*self._allowed} if name in self._folders)

    def find(self, name: str, fetch: bool = True) -> Path | None:
        """Return the folder of an adapter; None if it is not allowed, or the hub has none.

        Args:
            name: id of the adapter.
            fetch: whether it is fetched if that was not done before.

        Raises:
            Unavailable: too many requests wait for the hub already.
        """
        if (folder := self._known(name)) is not None or not fetch or not self._may_ask(name):
            return folder
        if not self._waiting.acquire(blocking=False):
            raise Unavailable("other adapters are being fetched from the hub; try again", "model")
        try:
            self._fetch_once(name)
        finally:
            self._waiting.release()
        return self._known(name)

    def _known(self, name: str) -> Path | None:
        folder = self._folders.get(name)
        # Somebody may have cleaned the hub's cache.
        return folder if folder is not None and _is_whole(folder) else None

    def _may_ask(self, name: str) -> bool:
        if not _NAME.fullmatch(name) or not any(fnmatchcase(name, p) for p in self._allowed):
            return False
        missed = self._missed.get(name)
        return missed is None or time.monotonic() - missed > MISS_SECONDS

    def _fetch_once(self, name: str) -> None:
        """Fetch an adapter, or wait for who is fetching it."""
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        try:
            with turn:
                if self._known(name) is None and self._may_ask(name):
                    self._fetch(name)
        finally:
            with self._lock:
                self._turns.pop(name, None)

    def _fetch(self, name: str) -> None:
        try:
            folder = fetch_from_hub(name, FILES, "adapter", most_bytes=MOST_BYTES)
        except FileNotFoundError as error:
            tell("hub", 30, model=name, error=str(error))
        else:
            if _is_whole(folder):
                self._folders[name] = folder
                return
        with self._lock:
            self._missed[name] = time.monotonic()
            self._missed.move_to_end(name)
            while len(self._missed) > MOST_MISSES:
                self._missed.popitem(last=False)


def _is_whole(folder: Path) -> bool:
    return all((folder / file).is_file() for file in FILES)
