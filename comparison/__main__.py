"""`python -m comparison`: run what is missing of the table, and write the page.

Two processes work on it, each on a cell of its own. It may be stopped at any time; the same command
goes on. `--page` only writes the page from what is there.
"""

import argparse
import logging
import os
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from comparison.ablations import Variant, variants
from comparison.cells import Cell, cells
from comparison.page import write_page

LOG = logging.getLogger("comparison")
ROOT = Path(__file__).resolve().parent.parent


def run_part(part: Cell | Variant, base_models: Path, assets: Path, out: Path) -> str:
    """Run a part of the comparison in a process of its own, on one core."""
    torch.set_num_threads(1)
    # What cannot be run there is a result too: the reason stands in the table.
    try:
        part.run(base_models, assets, out)
    except ValueError as error:
        folder = part.folder(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "why_not.txt").write_text(" ".join(str(error).split()) + "\n", encoding="utf-8")
        return f"not there: {error}"
    return "done"


def run_all(args: argparse.Namespace) -> None:
    """Run the parts that are wanted, in several processes: the table, then the ablations."""
    wanted = args.tasks.split(",") if args.tasks else None
    folders = (args.base_models, args.assets, args.out)
    with ProcessPoolExecutor(args.processes) as pool:
        for parts in (cells(), variants()):
            running = {
                pool.submit(run_part, part, *folders): part
                for part in parts
                if wanted is None or part.studied.task in wanted
            }
            for future in as_completed(running):
                try:
                    said = future.result()
                except Exception:
                    said = traceback.format_exc()
                LOG.info("%s: %s", running[future].folder(Path()), said)


def parse() -> argparse.Namespace:
    """Command line of the comparison."""
    parser = argparse.ArgumentParser(prog="python -m comparison", description=__doc__)
    parser.add_argument("--base-models", type=Path, default=ROOT / "release")
    assets = Path(os.environ.get("REFTUNE_ASSETS", ROOT / ".." / "shared"))
    parser.add_argument("--assets", type=Path, default=assets)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "comparison")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--tasks", help="some of the tasks, with commas between")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments = parse()
    if not arguments.page:
        run_all(arguments)
    write_page(arguments.out, arguments.docs)
