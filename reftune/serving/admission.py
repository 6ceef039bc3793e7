"""Who may run: every request needs the slot of its adapter, and waits until there is one."""

from collections import deque

from reftune.serving.answer import Answer
from reftune.serving.editing import Editing
from reftune.serving.settings import EngineStats
from reftune.serving.slots import Slots


class Admission:
    """The requests that wait, and the slots that they wait for.

    Args:
        editing: has the slots' edits.
        stats: counts what happens.
    """

    def __init__(self, editing: Editing, stats: EngineStats) -> None:
        self._editing, self._stats = editing, stats
        self._slots = Slots(stats.slots)
        self._waiting: deque[Answer] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, answer: Answer) -> None:
        """Put a request behind those that wait already."""
        self._waiting.append(answer)

    def withdraw(self, answer: Answer) -> bool:
        """Take back a request that waits; say whether it did."""
        if answer not in self._waiting:
            return False
        self._waiting.remove(answer)
        return True

    def next(self) -> Answer | None:
        """Return the request that has waited longest, with its slot; `None` if it must go on."""
        if not self._waiting or not self._place(self._waiting[0]):
            return None
        return self._waiting.popleft()

    def leave(self, answer: Answer) -> None:
        """Take back the slot of a request that is over."""
        if answer.slot and answer.adapter is not None:
            self._slots.give(answer.adapter.digest)

    def _place(self, answer: Answer) -> bool:
        """Give a request its slot; say whether there was one."""
        if answer.adapter is None:
            return True
        found = self._slots.take(answer.adapter.digest)
        if found is None:
            return False
        answer.slot, new = found
        if new:
            self._editing.write(answer.slot, answer.adapter)
            self._stats.slot_loads += 1
            self._stats.evictions = self._slots.evictions
            self._stats.slots_used = self._slots.used
        return True
