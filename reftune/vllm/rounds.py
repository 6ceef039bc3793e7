"""Which token of a step gets which slot, decided on the host before the forward pass.

A step may have more adapters than there are slots. So it is planned in rounds, each with as many as
there are; at every layer the slots of a round are written, its tokens edited, and then the next
round has its turn. Most steps have one round, and write nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from reftune.serving.adapters import ServedAdapter
from reftune.serving.answer import Answer
from reftune.serving.requests import Event, Sampling
from reftune.serving.slots import Slots
from reftune.serving.step import Segments, plan_step

# A request, how many of its tokens the cache holds, and how many the step has.
Run = tuple[Answer, int, int]


@dataclass(frozen=True, eq=False)
class Round:
    """What is done together at every layer.

    Attributes:
        writes: slots, and the adapters that they get first.
        segments: the tokens that are edited then.
    """

    writes: tuple[tuple[int, ServedAdapter], ...]
    segments: tuple[Segments, ...]


def request(name: str, prompt: Sequence[int], adapter: ServedAdapter | None) -> Answer:
    """Return a request as far as edits need it: vLLM itself chooses and delivers its tokens."""
    sampling = Sampling(max_tokens=1, temperature=0)
    return Answer(name, list(prompt), sampling, _unheard, frozenset(), adapter)


def _unheard(event: Event) -> None:
    raise AssertionError(f"{event} was told: expected vLLM to deliver what is generated")


_SILENT = request("", [], None)


def plan_rounds(runs: Sequence[Run], slots: Slots, device: torch.device) -> tuple[Round, ...]:
    """Plan one forward pass.

    Args:
        runs: of all requests of the step, in the order of the batch.
        slots: which adapter has which; they are given out anew where needed.
        device: of the tensors.
    """
    editing = [run for run in runs if _edits(run)]
    return tuple(_planned(runs, part, writes, device) for part, writes in _parts(editing, slots))


def _edits(run: Run) -> bool:
    answer, past, length = run
    return any(answer.edited(past, past + length))


def _parts(
    editing: Iterable[Run], slots: Slots
) -> Iterator[tuple[set[Answer], list[tuple[int, ServedAdapter]]]]:
    """Share out requests among rounds, and give them their slots."""
    part: set[Answer] = set()
    taken: dict[str, int] = {}
    writes: list[tuple[int, ServedAdapter]] = []
    for answer, _, _ in editing:
        adapter = answer.adapter
        assert adapter is not None
        if adapter.digest not in taken:
            found = slots.take(adapter.digest)
            if found is None:  # all slots are this round's
                yield part, writes
                _give(slots, taken)
                part, taken, writes = set(), {}, []
                found = slots.take(adapter.digest)
                assert found is not None
            slot, new = found
            taken[adapter.digest] = slot
            if new:
                writes.append((slot, adapter))
        answer.slot = taken[adapter.digest]
        part.add(answer)
    if part:
        yield part, writes
    _give(slots, taken)


def _give(slots: Slots, taken: Iterable[str]) -> None:
    for digest in taken:
        slots.give(digest)


def _planned(
    runs: Sequence[Run],
    part: set[Answer],
    writes: list[tuple[int, ServedAdapter]],
    device: torch.device,
) -> Round:
    """Plan one round; the other requests only take up room in the batch."""
    own = [(a if a in part else _SILENT, past, length) for a, past, length in runs]
    return Round(tuple(writes), plan_step(own, device))
