"""Switches reuse off for a while, and says how much may be kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """How much may be kept; see `reuse_within`."""

    memory: int | None = None
    disk: int = 0
    folder: str | Path | None = None


_off: ContextVar[bool] = ContextVar("without_reuse", default=False)
_room: ContextVar[Room | None] = ContextVar("reuse_within", default=None)


@contextmanager
def without_reuse() -> Iterator[None]:
    """Let training steps compute all that the model computes."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


@contextmanager
def reuse_within(
    memory: int | None = None, disk: int = 0, folder: str | Path | None = None
) -> Iterator[None]:
    """Say how much training steps may keep.

    Args:
        memory: bytes on the device of the model; a quarter of what is free there, when the first
            example comes, if `None`.
        disk: bytes in files, which are mapped into memory, after that.
        folder: where a folder is made for the files, and removed with the model; the system's
            place for temporary files if `None`.

    Raises:
        ValueError: a size is negative.
    """
    if (memory or 0) < 0 or disk < 0:
        raise ValueError(f"memory={memory}, disk={disk}: expected numbers of bytes")
    token = _room.set(Room(memory, disk, folder))
    try:
        yield
    finally:
        _room.reset(token)


def is_off() -> bool:
    return _off.get()


def room() -> Room:
    return _room.get() or Room()
