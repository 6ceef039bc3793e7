"""`reftune train --jobs`: many trainings at once."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reftune.cli.console import note
from reftune.cli.jobs_file import Options, read_jobs
from reftune.cli.loading import load_base, resolve_model
from reftune.cli.results import print_results


def run_jobs(
    args: argparse.Namespace,
    options: Options,
    build: Callable[[argparse.Namespace], tuple[Any, Any]],
    existing: Any,
) -> int:
    """Train all jobs of a file, and print what came of them.

    Args:
        args: of the command line; what a job does not say itself.
        options: those that a job may set, see `read_jobs`.
        build: makes config and recipe from options.
        existing: what may be in the folders.
    """
    from reftune.data import load_rows
    from reftune.many import ROWS_PER_PASS, Job, train_many

    rows_per_pass = ROWS_PER_PASS if args.rows_per_pass is None else args.rows_per_pass
    if rows_per_pass < 1:
        raise ValueError(f"--rows-per-pass {rows_per_pass}: expected 1 or more")
    known: dict[tuple, Any] = {}
    jobs: list[Job] = []
    for where, own in read_jobs(Path(args.jobs), options):
        job = argparse.Namespace(**{**vars(args), **own})
        for name in ("data", "out"):
            if getattr(job, name) is None:
                raise ValueError(f'{where}: "{name}" is missing, here and on the command line')
        try:
            config, recipe = build(job)
            sources = [(job.data, "train"), (job.eval_data, "validation")]
            for source in sources:
                if source[0] and source not in known:  # once, however many jobs have it
                    known[source] = load_rows(source[0], split=source[1])
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from error
        rows: Any = known[sources[0]]
        eval_rows = known.get(sources[1])
        jobs.append(Job(rows, job.out, config, recipe, eval_rows, name=where))
    model, tokenizer = load_base(resolve_model(args.model), args.dtype)
    results = train_many(model, tokenizer, jobs, rows_per_pass, existing, _tell)
    print_results(results, args.json)
    return 0


def _tell(job: Any, result: Any) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        note(f"{result.out}: loss {result.loss:.4g} after {result.steps} steps")
