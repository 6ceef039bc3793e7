"""`unit_locations` and `subspaces`: pyvene's nested lists, read into one entry per intervention.

The forms are those of pyvene 0.1.8 (`BaseModel._broadcast_unit_locations`), for interventions
without sources:

* `None`: every token, of every intervention.
* `{"sources->base": (None, places)}` or `{"base": places}`, where `places` is an int or a list of
  ints (the same positions in every row and for every intervention), or a list with one entry for
  each intervention, which is `None` (every token) or `batch` lists of positions.

Positions are columns of the batch as it is given, padding included.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Places = list[Tensor | None]
KEYS = ("sources->base", "base")


def read_locations(unit_locations: Any, count: int) -> Places:
    """Return the positions of every intervention: `(rows, positions)` int64, or `None` for all.

    With one row only, its positions are those of every row.

    Args:
        unit_locations: see the module.
        count: number of interventions.

    Raises:
        ValueError: another form, another number of interventions, rows of different lengths, or a
            negative position.
    """
    if unit_locations is None:
        return [None] * count
    if not isinstance(unit_locations, Mapping) or not any(key in unit_locations for key in KEYS):
        raise ValueError(
            f"unit_locations={unit_locations!r}: expected {{'sources->base': (None, places)}}"
        )
    key = next(key for key in KEYS if key in unit_locations)
    given = unit_locations[key]
    if isinstance(given, tuple) or (key == KEYS[0] and _is_pair(given)):
        if len(given) != 2:
            raise ValueError(f"unit_locations {given!r}: expected (None, places)")
        given = given[1]
    given = _lists(given)
    if given is None:
        return [None] * count
    if isinstance(given, int):
        given = [given]
    if all(isinstance(place, int) for place in given):
        return [_places([list(given)], 0)] * count
    if len(given) != count:
        raise ValueError(
            f"unit_locations for {len(given)} interventions: expected {count}, one entry of "
            "batch × positions for each"
        )
    places: Places = []
    for index, one in enumerate(given):
        found = None if one is None else _places(one, index)
        same = (p for p in places if p is not None and found is not None and torch.equal(p, found))
        places.append(next(same, found))  # one tensor, of which one selection is made
    return places


def _lists(given: Any) -> Any:
    """Return nested lists without tensors or arrays in them, but for whole entries."""
    if isinstance(given, Tensor) and given.dim() == 2:
        return given
    if isinstance(given, Tensor) and given.dim() == 3:
        return list(given)
    if hasattr(given, "tolist"):
        return given.tolist()
    return [_lists(one) for one in given] if isinstance(given, list | tuple) else given


def _is_pair(given: Any) -> bool:
    """Say whether a list is written for a pair of source and base."""
    if not isinstance(given, list) or len(given) != 2:
        return False
    return given[0] is None or (isinstance(given[0], int) and isinstance(given[1], int))


def _places(rows: Any, index: int) -> Tensor:
    try:
        places = torch.as_tensor(rows)
        if places.dim() != 2 or places.is_floating_point():
            raise ValueError
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(
            f"unit_locations of intervention {index}: {_short(rows)}: expected batch × positions, "
            "with as many positions in every row"
        ) from None
    if places.numel() and int(places.min()) < 0:
        raise ValueError(
            f"unit_locations of intervention {index}: {_short(rows)}: expected columns of the "
            "batch, counted from 0"
        )
    return places.long().cpu()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def read_subspaces(subspaces: Any, count: int, rows: int) -> list[Any]:
    """Return the subspaces of every intervention: one list of indices per row, or `None` for all.

    Args:
        subspaces: `None`, an int or a list of ints for all, or one entry for each intervention:
            lists of indices, or whatever an intervention of one's own understands.
        count: number of interventions.
        rows: number of rows of the batch.

    Raises:
        ValueError: another form, or another number of interventions.
    """
    subspaces = subspaces.tolist() if isinstance(subspaces, Tensor) else subspaces
    if subspaces is None:
        return [None] * count
    if isinstance(subspaces, int):
        subspaces = [subspaces]
    if not isinstance(subspaces, list | tuple) or not subspaces:
        raise ValueError(f"subspaces={subspaces!r}: expected interventions × batch × indices")
    if all(isinstance(index, int) for index in subspaces):
        return [[list(subspaces)] * rows] * count
    if len(subspaces) != count:
        raise ValueError(
            f"subspaces for {len(subspaces)} interventions: expected {count}, one entry of "
            "batch × indices for each"
        )
    for one in subspaces:
        listed = isinstance(one, list | tuple)
        if isinstance(one, int) or (listed and any(isinstance(row, int | str) for row in one)):
            raise ValueError(f"subspaces {_short(one)}: expected batch × indices")
    return list(subspaces)


def spread(places: Tensor, rows: int) -> Tensor:
    """Repeat `(given rows, positions)` for beams and returned sequences: `(rows, positions)`.

    Raises:
        ValueError: the given rows are not those of the batch.
    """
    copies, rest = divmod(rows, len(places))
    if rest:
        raise ValueError(
            f"unit_locations of {len(places)} rows for hidden states of {rows} rows: expected one "
            "for each"
        )
    return places.repeat_interleave(copies, dim=0)
