"""Requests of many tenants for a few slots, through the admission of the engine itself.

Requests come at random times, each for a tenant's adapter; an answer keeps the adapter's slot until
it is over. `reftune.serving.admission` decides who runs and who makes room, as it does in the
engine; only the model is missing.
"""

import heapq
import itertools
import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from reftune.serving.admission import Admission
from reftune.serving.settings import EngineStats
from reftune.serving.slots import Slots

Draw = Callable[[], int]


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Attributes:
        tenants: each has one adapter.
        exponent: the tenant of rank k is asked for in proportion to k ** -exponent; 0 is uniform.
        rate: requests per second.
        seconds: that an answer takes on average, its time being drawn exponentially.
        requests: how many are counted, after as many that warm up.
        seed: of all draws.
    """

    tenants: int = 10_000
    exponent: float = 0.0
    rate: float = 10.0
    seconds: float = 2.0
    requests: int = 4_000
    seed: int = 0


@dataclass(frozen=True)
class Counted:
    """What came of it.

    Attributes:
        found: share of requests whose adapter was in a slot.
        loads: adapters written into slots, per second.
        evictions: those that had to make room, per second.
        waited: share of requests that did not begin at once.
        late: 99 of 100 requests waited at most so many seconds.
    """

    found: float
    loads: float
    evictions: float
    waited: float
    late: float


@dataclass(frozen=True)
class _Adapter:
    digest: str


@dataclass(eq=False)
class _Request:
    """As much of `reftune.serving.answer.Answer` as the admission needs."""

    adapter: _Adapter
    came: float
    lasts: float
    slot: int = 0
    began: float = 0.0


class _NoBanks:
    """Stands for the banks: nothing is written."""

    def write(self, slot: int, adapter: _Adapter) -> None:
        """Do nothing."""


def popularity(load: Load, draws: random.Random) -> Draw:
    """Return what draws the number of a tenant."""
    reach = list(itertools.accumulate(k**-load.exponent for k in range(1, load.tenants + 1)))
    return lambda: bisect(reach, draws.random() * reach[-1])


def arrivals(load: Load) -> Iterator[_Request]:
    """Yield requests in the order in which they come."""
    draws = random.Random(load.seed)
    tenant, now = popularity(load, draws), 0.0
    for _ in range(2 * load.requests):
        now -= math.log(1 - draws.random()) / load.rate
        lasts = -math.log(1 - draws.random()) * load.seconds
        yield _Request(_Adapter(str(tenant())), now, lasts)


def simulate(load: Load, slots: int) -> Counted:
    """Let requests come and go, and count the second half of them."""
    stats = EngineStats(slots)
    admission = Admission(cast(Any, _NoBanks()), stats)
    running: list[tuple[float, int, _Request]] = []
    numbers, now = itertools.count(), 0.0
    begun: list[_Request] = []
    marks: list[tuple[float, int, int]] = []

    def admit() -> None:
        while (request := cast(Any, admission.next())) is not None:
            request.began = now
            begun.append(request)
            heapq.heappush(running, (now + request.lasts, next(numbers), request))

    for number, request in enumerate(arrivals(load)):
        while running and running[0][0] <= request.came:
            now, _, ended = heapq.heappop(running)
            admission.leave(cast(Any, ended))
            admit()
        now = request.came
        if number in (load.requests, 2 * load.requests - 1):
            marks.append((now, stats.slot_loads, stats.evictions))
        admission.wait(cast(Any, request))
        admit()
    waits = sorted(r.began - r.came for r in begun if r.came >= marks[0][0])
    (start, loads, evictions), (end, more_loads, more_evictions) = marks
    seconds, loaded = end - start, more_loads - loads
    return Counted(
        found=1 - loaded / (load.requests - 1),
        loads=loaded / seconds,
        evictions=(more_evictions - evictions) / seconds,
        waited=sum(wait > 0 for wait in waits) / len(waits),
        late=waits[int(0.99 * len(waits))],
    )


def read_from_disk(load: Load, kept: int) -> float:
    """Return the share of requests whose adapter is not among the `kept` ones used last.

    The memory of `reftune.serving.adapters` drops what was used least recently, as slots do whose
    users leave at once.
    """
    store, missing = Slots(kept), 0
    for number, request in enumerate(arrivals(load)):
        place = store.take(request.adapter.digest)
        store.give(request.adapter.digest)
        missing += number >= load.requests and place is not None and place[1]
    return missing / load.requests
