"""The check that settings hold numbers where numbers are expected: files say what they like."""

from dataclasses import fields
from typing import Any

EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}
FITTING = {int: (int,), float: (int, float), bool: (bool,)}


def check_numbers(settings: Any) -> None:
    """Check the fields of a dataclass that are `int`, `float` or `bool`.

    Raises:
        ValueError: one holds something else; names it.
    """
    for one in fields(settings):
        value = getattr(settings, one.name)
        if one.type in EXPECTED and (
            not isinstance(value, FITTING[one.type])
            or isinstance(value, bool) != (one.type is bool)
        ):
            raise ValueError(f"{one.name} {value!r:.60}: expected {EXPECTED[one.type]}")
