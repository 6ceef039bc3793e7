"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(happens: Callable[[], T], seconds: float = 300) -> T:
    """Return what `happens` returns, once that is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := happens()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)
    return value
