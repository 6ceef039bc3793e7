"""Numbers as cells of a table, and the table."""

from collections.abc import Sequence


def size(count: float) -> str:
    """Write bytes with three digits, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def seconds(value: float) -> str:
    """Write a duration with three digits."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def share(value: float) -> str:
    """Write a share in whole percents; what is less than one is said to be."""
    return "< 1%" if 0 < value < 0.005 else f"{value:.0%}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out cells of text in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
