"""Write the tables of `docs/scale.md` anew: `python -m benchmarks.scale`."""

from pathlib import Path

from benchmarks.scale.page import filled
from benchmarks.scale.tables import TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def main() -> None:
    """Write the page, and say so."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
