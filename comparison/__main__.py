"""`python -m comparison`: run what is missing of the table, and write the page.

Two processes work on it, each on a cell of its own. It may be stopped at any time; the same command
goes on. `--page` only writes the page from what is there.
"""

import argparse
import logging
import os
import traceback
import warnings
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import torch
import transformers

from comparison.ablations import Variant, variants
from comparison.cells import Cell, cells
from comparison.page import write_page
from comparison.results import WHY_NOT

LOG = logging.getLogger("comparison")
ROOT = Path(__file__).resolve().parent.parent


def run_part(part: Cell | Variant, base_models: Path, assets: Path, out: Path) -> str:
    """Run a part of the comparison on one core, and return what to say of it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    reason = part.why_not(base_models)
    if reason is not None:
        # That a method does not fit is a result too: it stands on the page.
        folder = part.folder(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WHY_NOT).write_text(reason + "\n", encoding="utf-8")
        return reason
    try:
        part.run(base_models, assets, out)
    except Exception:  # the others are run all the same
        return traceback.format_exc()
    return "done"


def run_all(args: argparse.Namespace) -> None:
    """Run the parts that are wanted, in several processes: the table, then the ablations.

    An interrupt ends the processes after their current step.
    """
    wanted = args.tasks.split(",") if args.tasks else None
    run = partial(run_part, base_models=args.base_models, assets=args.assets, out=args.out)
    with Pool(args.processes) as pool:
        for found in (cells(), variants()):
            parts = [p for p in found if wanted is None or p.studied.task in wanted]
            for part, said in zip(parts, pool.imap(run, parts), strict=True):
                LOG.info("%s: %s", part.folder(Path()), said)


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
        try:
            run_all(arguments)
        except KeyboardInterrupt:
            raise SystemExit("stopped; the same command goes on") from None
    write_page(arguments.out, arguments.docs)
