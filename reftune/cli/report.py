"""`reftune report`: one page about a folder of runs."""

import argparse
from pathlib import Path

from reftune.cli.console import note

EXAMPLES = """\
examples:
  reftune report runs
  reftune report runs/cola --samples 20
  reftune report runs --out page.html --samples 10

Everything that `reftune run` and `reftune train` left anywhere below the folder is in the page:
tables of scores over seeds, scores against trained parameters, losses, samples, settings. The page
is one file that fetches nothing. It needs the extra `plots`: pip install 'reftune[plots]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", metavar="FOLDER", help="with runs and trainings below it")
    parser.add_argument("--out", metavar="FILE", help="the page (FOLDER/report.html)")
    parser.add_argument(
        "--samples", type=int, default=5, metavar="N", help="questions of each test set (5)"
    )


def run(args: argparse.Namespace) -> int:
    """Read the folder, write the page, and print where it is."""
    if args.samples < 0:
        raise ValueError(f"--samples {args.samples}: expected 0 or more")
    folder = Path(args.folder)
    out = Path(args.out) if args.out is not None else folder / "report.html"
    if out.is_dir():
        raise IsADirectoryError(f'--out "{out}" is a folder; expected a file')
    if args.out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f'--out "{out}": there is no folder "{out.parent}"')
    from reftune.output_folder import write_atomically
    from reftune.report.figures import check_extra
    from reftune.report.page import write_page
    from reftune.report.reading import read_folder

    check_extra()
    found = read_folder(folder)
    for problem in found.problems:
        note(problem)
    page = write_page(found, f"Runs in {folder.resolve().name or folder}", args.samples)
    write_atomically(out, page)
    print(out)
    return 0
