"""Requests per minute of each key."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Bucket:
    left: float
    seen: float


class Rates:
    """Buckets that fill by ``per_minute`` each minute and hold as many; a request takes one.

    Used from the thread of the event loop alone.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str) -> int | None:
        """Take one for a key; return the seconds to wait if there is none, else `None`."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(float(self.per_minute), now))
        gained = (now - bucket.seen) * self.per_minute / 60
        bucket.left = min(float(self.per_minute), bucket.left + gained)
        bucket.seen = now
        if bucket.left < 1:
            return math.ceil((1 - bucket.left) * 60 / self.per_minute)
        bucket.left -= 1
        return None
