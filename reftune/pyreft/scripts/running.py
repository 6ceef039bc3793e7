"""Runs a script, a module or a notebook in which `import pyreft` means `reftune.pyreft`."""

import builtins
import linecache
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from reftune.pyreft.scripts.installing import install
from reftune.pyreft.scripts.notebooks import Cell, read_notebook, stand_in_for_ipython


def run(name: str | None, rest: list[str], module: list[str] | None = None) -> int:
    """Run a script as `python SCRIPT ARGS` does, or a module, or the cells of a notebook.

    Args:
        name: the script or the notebook.
        rest: its arguments.
        module: instead of it a module's name and its arguments.

    Returns:
        The exit code: 0, 1 after an exception, which is shown as Python does, 130 after Ctrl-C, 2
        if there is nothing to run.

    Raises:
        SystemExit: the script left.
    """
    if module:
        return _guarded(lambda: _run_module(module[0]), None, os.getcwd(), "-m", module[1:])
    if name is None:
        return _refuse("expected a script to run, such as train.py")
    file = Path(name)
    if not file.is_file():
        kind = "is a folder; expected a script" if file.is_dir() else "no such script"
        return _refuse(f'"{name}": {kind}')
    folder = os.path.dirname(os.path.realpath(file))
    if file.suffix != ".ipynb":
        main = _main_module(os.path.abspath(file))
        return _guarded(lambda: _run_script(main), main, folder, name, rest)
    try:
        cells = read_notebook(file)
    except ValueError as error:
        return _refuse(str(error))
    return _run_notebook(file, cells, rest)


def _refuse(text: str) -> int:
    sys.stderr.write(f"reftune: error: {text}\n")
    return 2


def _main_module(file: str | None) -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={})
    if file is not None:
        vars(main).update(
            __file__=file, __cached__=None, __loader__=SourceFileLoader("__main__", file)
        )
    return main


def _run_script(main: ModuleType) -> int:
    # Bytes, because the file itself says how it is encoded.
    source = Path(str(main.__file__)).read_bytes()
    exec(compile(source, str(main.__file__), "exec", dont_inherit=True), vars(main))
    return 0


def _run_module(name: str) -> int:
    try:
        found = find_spec(name) is not None
    except ModuleNotFoundError as error:
        if not name.startswith(f"{error.name}."):
            raise
        found = False
    if not found:
        return _refuse(f"no module named {name}")
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0


def _run_notebook(file: Path, cells: list[Cell], arguments: list[str]) -> int:
    skipped = sum(cell.skipped for cell in cells)
    if skipped:
        lines = "1 line" if skipped == 1 else f"{skipped} lines"
        sys.stderr.write(f'reftune: "{file}": skipped {lines} that only IPython runs\n')
    os.environ.setdefault("MPLBACKEND", "agg")  # pictures that no notebook shows
    main = _main_module(None)
    vars(main).update(display=stand_in_for_ipython(), get_ipython=lambda: None)
    before, folder = os.getcwd(), str(file.resolve().parent)
    os.chdir(folder)  # where Jupyter runs it
    try:
        return _guarded(lambda: _run_cells(file, cells, main), main, folder, str(file), arguments)
    finally:
        os.chdir(before)


def _run_cells(file: Path, cells: list[Cell], main: ModuleType) -> int:
    for cell in cells:
        name = f"{file.name}, code cell {cell.number}"
        # So that tracebacks and inspect find the lines.
        linecache.cache[name] = (len(cell.code), None, cell.code.splitlines(keepends=True), name)
        exec(compile(cell.code, name, "exec", dont_inherit=True), vars(main))
    return 0


def _guarded(
    act: Callable[[], int],
    main: ModuleType | None,
    folder: str,
    name: str,
    arguments: list[str],
) -> int:
    """Run something as the program that a process is; see `run`."""
    install()
    with _as_program(main, folder, [name, *arguments]):
        try:
            return act()
        except SystemExit:
            raise
        except BaseException as error:
            _show(error)
            return 130 if isinstance(error, KeyboardInterrupt) else 1


@contextmanager
def _as_program(main: ModuleType | None, folder: str, argv: list[str]) -> Iterator[None]:
    before: Any = (sys.argv, sys.path[:], sys.modules["__main__"])
    sys.argv = argv
    if not sys.flags.safe_path:
        sys.path[0] = folder
    if main is not None:
        sys.modules["__main__"] = main
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before


def _show(error: BaseException) -> None:
    """Show an exception as Python does, from the script on."""
    frames, ours = error.__traceback__, (__file__, "<frozen runpy>")
    while frames is not None and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    error = error.with_traceback(frames)
    if sys.excepthook is sys.__excepthook__:
        # Python's own hook does not look where the cells of a notebook are.
        traceback.print_exception(error)
    else:
        sys.excepthook(type(error), error, frames)
