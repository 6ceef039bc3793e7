"""Which adapter has which slot of the banks."""

from collections import OrderedDict


class Slots:
    """Slots for adapters, the one that was used least recently is given away first.

    Args:
        count: of adapters that can be there at once. Their slots are 1 to `count`; 0 is the base
            model's.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count, 0, -1))
        self._slot: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()  # in a slot, but not used now
        self.evictions = 0

    @property
    def used(self) -> int:
        """How many slots hold an adapter."""
        return len(self._slot)

    def take(self, digest: str) -> tuple[int, bool] | None:
        """Return the slot of an adapter and whether it must be written first.

        The slot is the adapter's until `give` was called as often as this. `None` if all slots are
        used by others.
        """
        new = digest not in self._slot
        if new:
            if not self._free and not self._idle:
                return None
            self._slot[digest] = self._free.pop() if self._free else self._evict()
            self._users[digest] = 0
        self._users[digest] += 1
        self._idle.pop(digest, None)
        return self._slot[digest], new

    def give(self, digest: str) -> None:
        """Say that one user of an adapter is done."""
        self._users[digest] -= 1
        if self._users[digest] == 0:
            self._idle[digest] = None

    def _evict(self) -> int:
        digest, _ = self._idle.popitem(last=False)
        del self._users[digest]
        self.evictions += 1
        return self._slot.pop(digest)
