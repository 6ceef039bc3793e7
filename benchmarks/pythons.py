"""Which Python runs which environment: `.venv-bench/<name>`, as `make bench` makes them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-bench"
NAMES = ("reftune", "pyreft", "adapters")


def find_pythons(given: list[str]) -> dict[str, str]:
    """Return the Python of every environment that is there.

    Args:
        given: `name=path` of those that are elsewhere; `name=` leaves one out.

    Raises:
        ValueError: a name or path does not exist.
    """
    pythons = {name: str(FOLDER / name / "bin" / "python") for name in NAMES}
    pythons = {name: path for name, path in pythons.items() if Path(path).exists()}
    pythons.setdefault("reftune", sys.executable)
    for item in given:
        name, _, path = item.partition("=")
        if name not in NAMES or (path and not Path(path).exists()):
            known = ", ".join(NAMES)
            raise ValueError(f"--python {item!r}: expected <name>=<path> with a name of {known}")
        pythons.pop(name, None)
        if path:
            pythons[name] = path
    return pythons
