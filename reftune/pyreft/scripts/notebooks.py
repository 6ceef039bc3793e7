"""The Python of a Jupyter notebook, without what only IPython understands."""

import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# Cell magics that run their cell as Python. What others get is no Python, or is not for here.
_PYTHON_CELLS = ("capture", "prun", "time", "timeit")
_HELP = re.compile(r"[\w.]+\?{1,2}")
# Line magics that run the rest of their line as Python, and values that only IPython gives.
_TIMED = re.compile(r"(?P<indent>\s*)%(?:time|timeit|prun)\s+(?P<code>[^-\s].*)")
_ASSIGNED = re.compile(r"(?P<target>\s*[\w.,\s]+=\s*)[!%].*")


class Cell(NamedTuple):
    """A code cell.

    Attributes:
        number: among the code cells, from 1.
        code: its Python; a line that was skipped is `pass`, so that the others keep their numbers.
        skipped: how many lines were.
    """

    number: int
    code: str
    skipped: int


def read_notebook(file: Path) -> list[Cell]:
    """Return the code cells of a notebook, in order.

    Raises:
        ValueError: the file is not a notebook.
    """
    try:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        code = [one["source"] for one in cells if one["cell_type"] == "code"]
        sources = [one if isinstance(one, str) else "".join(one) for one in code]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'"{file}" is not a notebook: expected JSON with cells, each with cell_type and source '
            f"({type(error).__name__}: {error})"
        ) from error
    return [_plain(number, source) for number, source in enumerate(sources, 1)]


def _plain(number: int, source: str) -> Cell:
    lines = source.splitlines()
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].startswith("%%"):
        words = lines[first][2:].split()
        if not words or words[0] not in _PYTHON_CELLS:
            return Cell(number, "", len(lines) - first)
    code, skipped = _without_magics(lines)
    return Cell(number, code, skipped)


def _without_magics(lines: list[str]) -> tuple[str, int]:
    """Replace the lines that are not Python, where a statement begins; return how many they were.

    A line within brackets or a string may begin with the same characters: `%s` of a template.
    """
    kept: list[str] = []
    skipped = 0
    rest = iter(lines)
    for line in rest:
        if (timed := _TIMED.fullmatch(line)) and not _is_open(kept):
            line = timed["indent"] + timed["code"]
        if (assigned := _ASSIGNED.fullmatch(line)) and not _is_open(kept):
            kept.append(assigned["target"] + "[]")
            skipped += 1
            continue
        text = line.strip()
        begins = text.startswith(("!", "%", "?")) or _HELP.fullmatch(text)
        if not begins or _is_open(kept):
            kept.append(line)
            continue
        gone = [line, *_continued(line, rest)]
        kept += [line[: len(line) - len(line.lstrip())] + "pass", *[""] * (len(gone) - 1)]
        skipped += len(gone)
    return "\n".join(kept) + "\n", skipped


def _continued(line: str, rest: Iterator[str]) -> Iterator[str]:
    """Yield the lines that a backslash adds to one."""
    while line.rstrip().endswith("\\"):
        following = next(rest, None)
        if following is None:
            return
        yield following
        line = following


def _is_open(lines: list[str]) -> bool:
    """Say whether what comes after these lines still belongs to their last statement."""
    if lines and lines[-1].rstrip().endswith("\\"):
        return True
    try:
        for _ in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
            pass
    except tokenize.TokenError:
        return True
    except SyntaxError:  # of the notebook's own, to which Python will say more
        return False
    return False


def show(*values: Any, **options: Any) -> None:
    """Stand in for IPython's `display`, which notebooks have without an import."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")


def stand_in_for_ipython() -> Any:
    """Put in what notebooks import and only Jupyter has, where it is missing; return `display`."""
    if "IPython" not in sys.modules and find_spec("IPython") is not None:
        return import_module("IPython.display").display
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    for name in ("HTML", "Markdown", "Image", "Latex"):
        setattr(display, name, str)
    vars(display).update(display=show, clear_output=lambda *args, **options: None)
    # matplotlib asks the version of what it takes for IPython.
    vars(package).update(display=display, get_ipython=lambda: None, version_info=(0, 0))
    sys.modules.update({"IPython": package, "IPython.display": display})
    if find_spec("ipywidgets") is None:
        sys.modules["tqdm.notebook"] = import_module("tqdm.std")
    return show
