"""Puts tables into a page, between `<!-- table: name -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Mapping

PLACE = re.compile(r"(<!-- table: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.S)


def filled(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its tables made anew.

    Raises:
        ValueError: a table has no place in the page, or a place no table.
    """
    places = [match[2] for match in PLACE.finditer(page)]
    if sorted(places) != sorted(tables):
        raise ValueError(f"the page has places for {places}: expected {list(tables)}, one each")
    return PLACE.sub(lambda match: f"{match[1]}\n{tables[match[2]]()}\n\n{match[4]}", page)
