"""`python -m comparison`: run what is missing of the table, and write the page.

Two processes work on it, each on a cell of its own. It may be stopped at any time; the same command
goes on. `--page` only writes the page from what is there.
"""

import argparse
import gc
import logging
import os
import traceback
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import torch
import transformers

from comparison.ablations import Variant, variants
from comparison.cells import Cell, Places, cells, slug
from comparison.page import write_page
from comparison.records import write_reason
from comparison.settings import FIRST, METHODS, ONE_ANSWER, SEEDS, TASKS, UNTRAINED

LOG = logging.getLogger("comparison")
ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "comparison" / "measured"


def run_part(part: Cell | Variant, args: argparse.Namespace) -> tuple[str, bool]:
    """Run a part of the comparison on one core; return what to say of it, and whether it failed."""
    torch.set_num_threads(1)
    # Gradients of padded tokens are tiny numbers; with zeros instead a step takes half the time.
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    places = Places(args.base_models, args.assets, args.out, args.records)
    reason = part.why_not(args.base_models)
    if reason is not None:
        write_reason(part.file(args.records), reason)
        return reason, False
    try:
        part.run(places, args.seeds)
    except FileNotFoundError as error:  # a set is not there
        return str(error), True
    except Exception:  # the others are run all the same
        return traceback.format_exc(), True
    return "done", False


def run_all(args: argparse.Namespace) -> list[str]:
    """Run the parts that are wanted, in several processes; return those that failed.

    An interrupt ends the processes after their current step.
    """
    run = partial(run_part, args=args)
    parts = [part for part in in_order() if is_wanted(part, args)]
    failed = []
    # Trainer looks for garbage after each training: not in the libraries, which stay.
    with Pool(args.processes, initializer=gc.freeze) as pool:
        for part, (said, has_failed) in zip(parts, pool.imap(run, parts), strict=True):
            LOG.info("%s: %s", part.file(Path()), said)
            if has_failed:
                failed.append(str(part.file(Path())))
    return failed


def in_order() -> list[Cell | Variant]:
    """Return all parts: what is studied first, with its ablations, then the rest."""
    parts: list[Cell | Variant] = [*cells(), *variants()]
    return sorted(parts, key=lambda part: part.studied.name not in FIRST)


def is_wanted(part: Cell | Variant, args: argparse.Namespace) -> bool:
    """Whether the command line asks for a part; methods named leave the ablations out."""
    if args.tasks and part.studied.task not in args.tasks:
        return False
    return not args.methods or (isinstance(part, Cell) and slug(part.compared.name) in args.methods)


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers with commas between."""
    return tuple(int(part) for part in text.split(","))


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads some of the names known, with commas between."""
    names = sorted(set(known))

    def read(text: str) -> list[str]:
        given = [part.strip() for part in text.split(",")]
        if wrong := [name for name in given if name not in names]:
            raise argparse.ArgumentTypeError(
                f"{', '.join(wrong)}: expected some of {'; '.join(names)}"
            )
        return given

    return read


def parse() -> argparse.Namespace:
    """Command line of the comparison."""
    parser = argparse.ArgumentParser(prog="python -m comparison", description=__doc__)
    parser.add_argument("--base-models", type=Path, default=ROOT / "release")
    assets = os.environ.get("REFTUNE_ASSETS") or None
    sets = "folder of the real sets (REFTUNE_ASSETS), see comparison/README.md"
    parser.add_argument("--assets", type=Path, default=assets, help=sets)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "comparison")
    parser.add_argument("--records", type=Path, default=RECORDS, help="what came of it, kept")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    tasks = some_of(studied.task for studied in TASKS)
    parser.add_argument("--tasks", type=tasks, help="some of the tasks, with commas between")
    named = [UNTRAINED, ONE_ANSWER, *(one for of in METHODS.values() for one in of)]
    methods = some_of(slug(one.name) for one in named)
    parser.add_argument("--methods", type=methods, help="some of the methods: loreft,lora-rank-1")
    parser.add_argument("--seeds", type=numbers, default=SEEDS, help="others than the table's")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page")
    args = parser.parse_args()
    if args.seeds != SEEDS and args.records == RECORDS:
        parser.error("--seeds: expected --records of another folder, where the table's are kept")
    if not args.page and (args.assets is None or not (args.assets / "data").is_dir()):
        parser.error(f"--assets {args.assets or 'not given'}: expected the {sets}")
    return args


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments = parse()
    failures: list[str] = []
    if not arguments.page:
        try:
            failures = run_all(arguments)
        except KeyboardInterrupt:
            raise SystemExit("stopped; the same command goes on") from None
    if failures:
        LOG.error("not measured, as said above: %s", ", ".join(failures))
    try:
        write_page(arguments.records, arguments.docs)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(int(bool(failures)))
