"""Scripts, modules and notebooks that import pyreft, run as Python and Jupyter run them."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reftune.cli import main
from reftune.cli import pyreft as command
from reftune.pyreft.scripts.installing import uninstall
from reftune.pyreft.scripts.notebooks import read_notebook


def program(argv: list[str]) -> int:
    return main(["pyreft", *argv])


@pytest.fixture(autouse=True)
def _uninstalled(monkeypatch) -> Any:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # torch.distributed has its own
    yield
    uninstall()


def write(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def write_notebook(file: Path, *sources: str) -> str:
    cells: list[dict] = [{"cell_type": "markdown", "source": ["%not code\n"]}]
    cells += [{"cell_type": "code", "source": one.splitlines(keepends=True)} for one in sources]
    return write(file, json.dumps({"cells": cells, "nbformat": 4}))


# Scripts.

SCRIPT = """\
import os, sys
import pyreft
import beside
if __name__ == "__main__":
    here = sys.modules["__main__"]
    print(sys.argv, __file__, sys.path[0], here.__file__, beside.mark, __doc__)
    print(pyreft.LoreftIntervention.__module__)
"""


def test_a_script_runs_as_python_runs_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "beside.py", "mark = 'found'")
    write(tmp_path / "in" / "train.py", f'"""What it does."""\n{SCRIPT}')
    argv, path, main = sys.argv, list(sys.path), sys.modules["__main__"]
    given = ["in/train.py", "--lr", "1e-3", "--debug", "-m", "--help"]
    assert program(given) == 0
    file, folder = tmp_path / "in" / "train.py", tmp_path / "in"
    assert capsys.readouterr().out == (
        f"{given} {file} {folder} {file} found What it does.\nreftune.pyreft.interventions\n"
    )
    assert (sys.argv, sys.path, sys.modules["__main__"]) == (argv, path, main)
    del sys.modules["beside"]


@pytest.mark.long
def test_in_a_process_of_its_own_the_warnings_and_the_traceback_are_the_scripts(tmp_path) -> None:
    script = write(
        tmp_path / "fails.py",
        "import warnings\nimport transformers\nfrom pyreft import ReftConfig\n"
        "transformers.TrainingArguments('x', evaluation_strategy='no', report_to=[])\n"
        "warnings.warn('a word of the script')\n\n\n"
        "def fail():\n    raise ValueError('so it is')\n\n\nfail()\n",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "reftune.pyreft", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert f"{script}:5: UserWarning: a word of the script" in done.stderr
    assert f"{script}:4: FutureWarning: TrainingArguments(evaluation_strategy=)" in done.stderr
    assert done.stderr.rpartition("Traceback")[2] == (
        f' (most recent call last):\n  File "{script}", line 12, in <module>\n    fail()\n'
        f"  File \"{script}\", line 9, in fail\n    raise ValueError('so it is')\n"
        "ValueError: so it is\n"
    )


@pytest.mark.parametrize("code", ["0", "3", "'a reason'"])
def test_the_exit_of_a_script_is_that_of_the_command(tmp_path, code: str) -> None:
    script = write(tmp_path / "leaves.py", f"import sys; sys.exit({code})")
    with pytest.raises(SystemExit) as leaving:
        program([script])
    assert leaving.value.code == eval(code)


def test_an_exception_in_a_script_is_its_traceback_and_code_1(tmp_path, capsys) -> None:
    script = write(tmp_path / "fails.py", "def fail():\n    return 1 / 0\n\nfail()")
    assert program([script]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{script}", line 4, in <module>',
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert program([write(tmp_path / "torn.py", "x = (")]) == 1
    shown = capsys.readouterr().err
    assert "SyntaxError" in shown
    assert "running.py" not in shown
    assert program([write(tmp_path / "stops.py", "raise KeyboardInterrupt")]) == 130


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "expected a script"),
        (["missing.py"], '"missing.py": no such script'),
        (["."], "is a folder"),
        (["-m", "nothing.at.all", "--x"], "no module named nothing.at.all"),
    ],
)
def test_nothing_to_run_is_one_line_and_code_2(capsys, given: list[str], says: str) -> None:
    assert program(given) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("reftune: error: ")
    assert says in shown
    assert shown.count("\n") == 1


def test_a_module_runs_as_python_runs_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    write(
        tmp_path / "experiments" / "train.py",
        "import sys, pyreft\nprint(__name__, sys.argv, sys.path[0], pyreft.__name__)\n",
    )
    assert program(["-m", "experiments.train", "--lr", "1", "-m", "x"]) == 0
    file = tmp_path / "experiments" / "train.py"
    out = capsys.readouterr().out
    assert out == f"__main__ {[str(file), '--lr', '1', '-m', 'x']} {tmp_path} reftune.pyreft\n"


def test_the_command_keeps_its_hands_off_the_options_and_warnings_of_a_script() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parser.add_argument("--debug", action="store_true")
    args = parser.parse_args(["train.py", "--debug", "--json", "-m", "x"])
    # With debug, `reftune` neither silences warnings nor turns errors into a line.
    assert (args.script, args.debug) == ("train.py", True)
    assert args.arguments == ["--debug", "--json", "-m", "x"]


# Notebooks.


def test_the_cells_of_a_notebook_run_in_order_in_one_namespace(tmp_path, capsys) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "data.txt", "beside the notebook")
    notebook = write_notebook(
        folder / "demo.ipynb",
        "try:\n    import pyreft\nexcept ModuleNotFoundError:\n    !pip install pyreft\n",
        "from pathlib import Path",
        "%matplotlib inline\nx = 1\n?x\nx?\n",
        "%%time\nx += 1\ndisplay(x)\n",
        "%%bash\nx=5\necho not python (\n",
        "print(x, pyreft.__name__, Path('data.txt').read_text(), __name__)\n",
    )
    before = os.getcwd()
    assert program([notebook, "--unused"]) == 0
    out, err = capsys.readouterr()
    assert out == "2\n2 reftune.pyreft beside the notebook __main__\n"
    assert err == f'reftune: "{notebook}": skipped 8 lines that only IPython runs\n'
    assert os.getcwd() == before


def test_lines_that_only_begin_like_magic_stay(tmp_path) -> None:
    source = (
        'template = """### Instruction:\n%s\n\n!\n"""\n'
        "rest = (7\n        % 4)\n"
        "more = 7 \\\n    % 4\n"
        "if True:\n    !pip install a \\\n        b\n    rest += 1\n"
        "%timeit rest\n"
    )
    (cell,) = read_notebook(Path(write_notebook(tmp_path / "demo.ipynb", source)))
    names: dict[str, Any] = {}
    exec(cell.code, names)
    assert names["template"] % "x" == "### Instruction:\nx\n\n!\n"
    assert (names["rest"], names["more"], cell.skipped) == (4, 3, 2)
    assert len(cell.code.splitlines()) == len(source.splitlines())


def test_timed_lines_run_and_values_of_the_shell_are_empty(tmp_path, capsys) -> None:
    source = (
        "%time x = 3\nif x:\n    %timeit x += 1\nfiles = !ls\na, b = 1, 2\n"
        "from IPython.display import clear_output, display\nclear_output()\n"
        "display(x, files)\nprint(get_ipython())\n"
        "import IPython\nassert IPython.version_info[:2]\n"  # as matplotlib asks
    )
    assert program([write_notebook(tmp_path / "demo.ipynb", source)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "4 []\nNone\n"
    assert "skipped 1 line" in captured.err


def test_an_error_in_a_notebook_names_the_cell_and_the_line(tmp_path, capsys) -> None:
    notebook = write_notebook(tmp_path / "demo.ipynb", "x = 1", "!ls\ny = x\nz = missing\n")
    assert program([notebook]) == 1
    err = capsys.readouterr().err
    assert 'File "demo.ipynb, code cell 2", line 3, in <module>\n    z = missing\n' in err
    assert err.endswith("NameError: name 'missing' is not defined\n")
    assert "reftune/pyreft" not in err


@pytest.mark.parametrize("text", ["{}", "not json", '{"cells": [{"cell_type": "code"}]}', "[1]"])
def test_what_is_no_notebook_is_one_line(tmp_path, capsys, text: str) -> None:
    assert program([write(tmp_path / "no.ipynb", text)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("reftune: error: ")
    assert err.count("\n") == 1
    assert "is not a notebook" in err
