"""The Python of the README and of the documentation runs, and errors are as documented."""

import ast
import doctest
import re
from pathlib import Path

import pytest

from reftune.interventions import INTERVENTIONS

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block is left out if the line before it says why: <!-- not run: needs the network -->
BLOCK = re.compile(r"^(?P<skip><!-- not run: .+ -->\n)?```python\n(?P<code>.*?)^```$", re.M | re.S)


def blocks_of(page: Path) -> list[re.Match[str]]:
    """Return the Python blocks of a page that are to be run."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [match for match in found if not match["skip"]]


PAGES = [page for page in TEXTS if blocks_of(page)]


def run_blocks(page: Path) -> int:
    """Run the Python blocks of a page in order, in one namespace; return how many there were."""
    namespace = {"__name__": page.stem}
    blocks = blocks_of(page)
    for match in blocks:
        line = match.string.count("\n", 0, match.start("code"))
        code = compile("\n" * line + match["code"], str(page), "exec")  # so errors show its line
        exec(code, namespace)
    return len(blocks)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A folder of its own, and the interventions as they were before."""
    monkeypatch.chdir(tmp_path)
    before = dict(INTERVENTIONS)
    yield tmp_path
    INTERVENTIONS.clear()
    INTERVENTIONS.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, scratch):
    assert run_blocks(page) > 0


def test_the_errors_of_the_errors_page_are_the_real_ones(scratch):
    page = ROOT / "docs" / "errors.md"
    failed, tried = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.ELLIPSIS, encoding="utf-8"
    )
    assert tried > 0
    assert failed == 0


def test_every_module_says_what_it_is():
    """The reference page of a module begins with its docstring."""
    for path in sorted((ROOT / "reftune").rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
