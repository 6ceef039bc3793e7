"""Which columns of a prompt are edited, as pyreft's lists: `"f3+l3"` and what it selects.

The first and the last tokens are at most `n // 2` each, also where only one side is asked for, so a
prompt of one token has none. That is pyreft's rule (0.1.0, `pyreft.dataset`), and not the one of
`reftune.positions`.
"""

import logging
import operator
import re
from typing import Any

LOG = logging.getLogger(__name__)

_FORM = re.compile(
    r"f(?P<first>\d+)|l(?P<last>\d+)|f?(?P<both_first>\d+)\+l?(?P<both_last>\d+)(?P<rest>\+.*)?"
)


def parse_positions(positions: str) -> tuple[int, int]:
    """Read `"f3+l5"`, `"f3"` or `"l5"`.

    Returns:
        How many first and how many last tokens; 0 for a side that is not named. What follows a
        second `+` is ignored, as pyreft does, with a warning.

    Raises:
        ValueError: the text has another form.
    """
    text = positions.replace(" ", "") if isinstance(positions, str) else ""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f'positions {positions!r}: expected e.g. "f3+l3", "f3" or "l1"')
    if match["rest"]:
        LOG.warning("positions %r: %r is ignored", positions, match["rest"])
    first, last = match["first"] or match["both_first"], match["last"] or match["both_last"]
    return int(first or 0), int(last or 0)


def get_intervention_locations(
    *,
    last_position: int,
    num_interventions: int,
    positions: str | None = None,
    first_n: int | None = None,
    last_n: int | None = None,
    pad_mode: str = "first",
    share_weights: bool = False,
    **others: Any,
) -> list[list[int]]:
    """Return the columns that each intervention edits, in a row without padding.

    With n for `last_position`, the columns are the first `min(n // 2, first_n)` and the last
    `min(n // 2, last_n)` before column n. What a short prompt lacks is filled up with one more
    column, which the caller makes harmless.

    Args:
        last_position: one more than the last column of the prompt.
        num_interventions: how many lists to return.
        positions: such as `"f3+l3"`; goes before `first_n` and `last_n`.
        first_n: the number of first tokens.
        last_n: the number of last tokens.
        pad_mode: `"first"` fills up with -1, anything else with `last_position`.
        share_weights: whether first and last tokens have the same interventions. If not, and if
            the prompt has both, the first half of the lists holds the first tokens and the second
            half the last ones, filled up to one length.
        **others: ignored, so that the options of a data set can be passed on whole.

    Returns:
        `num_interventions` lists of columns.

    Raises:
        ValueError: the numbers are missing, the prompt's length is negative, or an odd number of
            interventions is to be divided in two.
    """
    length = operator.index(last_position)
    if positions is None and first_n is None and last_n is None:
        positions = others.get("position")  # as newer versions call it
    first, last = (first_n, last_n) if positions is None else parse_positions(positions)
    if first is None or last is None:
        raise ValueError(f"first_n {first}, last_n {last}: expected both, or positions")
    if length < 0:
        raise ValueError(f"last_position {length}: expected 0 or more; is the prompt empty?")
    if first and last and not share_weights and num_interventions % 2:
        raise ValueError(
            f"num_interventions {num_interventions}: expected an even number, half for the first "
            "and half for the last tokens, or share_weights=True"
        )
    head = list(range(min(length // 2, first)))
    tail = list(range(length - min(length // 2, last), length))
    filler = -1 if pad_mode == "first" else length
    if share_weights or not head or not tail:
        everything = _fill(head + tail, first + last, filler)
        return [list(everything) for _ in range(num_interventions)]
    size = max(first, last)
    half = num_interventions // 2
    return [_fill(side, size, filler) for side in (head, tail) for _ in range(half)]


def _fill(columns: list[int], size: int, filler: int) -> list[int]:
    return columns + [filler] * (size - len(columns))
