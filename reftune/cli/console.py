"""What the sub-commands print: tables for people, JSON for machines."""

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Lay out rows in columns, the last of which is not padded."""
    lines = [[str(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(lines[0]))]
    if header:
        lines.insert(1, ["─" * width for width in widths])
    return "\n".join(
        "  ".join(
            [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        ).rstrip()
        for line in lines
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def clip(text: str, width: int) -> str:
    """Put a text on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def size(count: int) -> str:
    """Write a number of bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print named values, as a table or as one JSON object."""
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    shown = {name.replace("_", " "): _for_people(name, value) for name, value in facts.items()}
    print(table(list(shown.items())))


def _for_people(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return size(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def note(text: str) -> None:
    """Tell something that is no result: on stderr, so that results can be piped."""
    print(f"reftune: {text}", file=sys.stderr)
