"""What was read from the database and is asked for again with every request."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Values by key, until somebody changes what they were read from.

    Never older than the last change that was over when it was asked: while one is going on, and
    for what was begun to be read before its end, the database is asked. Safe to use from several
    threads. All changes must be made within `changing`, so there is one process that makes any;
    `Store.keep_alone` sees to it.

    Args:
        most: how many are kept; the one that was used least recently goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._changing = self._changes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Value]) -> Value:
        """Return a value; it is read if it is not known."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            changes = self._changes
        value = read()
        with self._lock:
            if not self._changing and self._changes == changes:
                self._values[key] = value
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
        return value

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Forget all values, and remember none until the change is over, however it ends."""
        with self._lock:
            self._changing += 1
            self._values.clear()
        try:
            yield
        finally:
            with self._lock:
                self._changing -= 1
                self._changes += 1
