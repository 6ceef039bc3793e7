"""`reftune train`: from rows to an adapter."""

import argparse
import re
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from reftune.cli.console import print_facts
from reftune.cli.jobs import run_jobs
from reftune.cli.loading import add_model_options, load_base, resolve_model
from reftune.cli.results import facts_of

EXAMPLES = """\
examples:
  reftune train --data tips.jsonl --out tips-adapter
  reftune train --model meta-llama/Llama-3.2-1B-Instruct --dtype bfloat16 \\
      --data tatsu-lab/alpaca --layers "3;9;18;24" --positions f5+l5 --untied --out alpaca-adapter
  reftune train --data tips/ --layers 4 --positions l1 --epochs 50 --lr 4e-3 --out tips-adapter
  reftune train --data tips/ --layers 4 --positions l1 --epochs 50 --lr 4e-3 --out tips-adapter \\
      --resume                                # after an interruption: the same command goes on

  # many at once: a job per line, whose values stand before those of the command line
  for lr in 1e-3 2e-3 4e-3; do for seed in 1 2 3; do
      echo "{\"lr\": $lr, \"seed\": $seed, \"out\": \"sweep/lr$lr-seed$seed\"}"
  done; done > jobs.jsonl
  reftune train --jobs jobs.jsonl --data tips.jsonl --layers 4 --positions l1 --epochs 50

data: a JSONL, JSON, CSV or Parquet file, a folder of those, or a hub id (owner/name:split), with
  "prompt" + "completion", "messages", or "instruction" (+ "input") + "output" in each row.
layers: all, a list (3;9;18;24 or 3,9), a range (0-5), counted from the end (--layers=-1).
jobs: a JSONL file, or a list in JSON or YAML, of objects whose keys are the long options of data,
  adapter and training: {"data": "a.jsonl", "out": "a", "layers": [3, 9], "batch-size": 8}.
"""
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _add_data_options(parser)
    add_model_options(parser)
    parser.add_argument("--jobs", metavar="J", help="train many adapters at once, see below")
    parser.add_argument(
        "--rows-per-pass", type=int, metavar="N", help="rows that the jobs share a pass with (64)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    _add_reuse_options(parser)
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    there.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    _add_adapter_options(parser.add_argument_group("the adapter"))
    _add_recipe_options(parser.add_argument_group("the training"))


def _add_data_options(group: Any) -> None:
    group.add_argument("--data", metavar="D", help="the examples, see below")
    group.add_argument("--out", metavar="O", help="folder for the adapter")
    group.add_argument("--eval-data", metavar="D", help="held-out examples; their loss is logged")


def _add_reuse_options(parser: Any) -> None:
    parser.add_argument(
        "--no-reuse", action="store_true", help="compute again what no edit can change"
    )
    parser.add_argument(
        "--reuse-memory", type=float, metavar="GB", help="to keep it (a quarter of what is free)"
    )
    parser.add_argument("--reuse-disk", type=float, metavar="GB", help="to keep more of it (0)")


def _add_adapter_options(group: Any) -> None:
    group.add_argument("--layers", default="all", help="edited layers (default: all)")
    group.add_argument("--positions", default="f7+l7", help="fK, lK, fK+lM or all (f7+l7)")
    group.add_argument("--r", type=int, default=4, help="rank of the edit (4)")
    group.add_argument("--intervention", default="loreft", help="kind of the edit (loreft)")
    group.add_argument("--component", default="block_output", help="edited site (block_output)")
    group.add_argument("--untied", action="store_true", help="an edit each for first and last")
    group.add_argument("--dropout", type=float, default=0.0, help="in training (0)")
    group.add_argument("--dropout-on", default="edit", help="edit or state (edit)")
    group.add_argument("--act-fn", metavar="F", help="activation around Wh + b (none)")
    group.add_argument("--init", help="identity or paper (identity where the edit has one)")
    group.add_argument("--decode", default="none", help="none, all, or the first k tokens (none)")


def _add_recipe_options(group: Any) -> None:
    # The defaults are those of TrainingRecipe, which is not imported for the help's sake.
    group.add_argument("--epochs", type=float, help="passes over the data (3)")
    group.add_argument("--lr", type=float, help="peak learning rate (1e-3)")
    group.add_argument("--batch-size", type=int, help="rows per step (16)")
    group.add_argument("--accumulation", type=int, help="steps per update (1)")
    group.add_argument("--warmup", type=float, help="steps, or a share of them below 1 (0.1)")
    group.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate (linear)")
    group.add_argument("--weight-decay", type=float, help="of AdamW (0)")
    group.add_argument("--max-grad-norm", type=float, help="gradients are clipped to it (1)")
    group.add_argument(
        "--bf16", action="store_true", default=None, help="matrix products in bfloat16"
    )
    group.add_argument(
        "--group-by-length", action="store_true", default=None, help="less padding in batches"
    )
    group.add_argument("--max-length", type=int, help="longest row in tokens (512)")
    group.add_argument("--template", choices=("auto", "chat", "plain"), help="of the rows (auto)")
    group.add_argument("--seed", type=int, help="of weights, order and dropout (42)")
    group.add_argument("--save-steps", type=int, help="steps between checkpoints (100)")
    group.add_argument("--log-steps", type=int, help="steps between lines of the log (1)")
    group.add_argument("--eval-steps", type=int, help="steps between evaluations (an epoch)")


def run(args: argparse.Namespace) -> int:
    """Train, and print what came of it."""
    existing = "resume" if args.resume else "overwrite" if args.overwrite else "refuse"
    with _reuse(args):
        if args.jobs is not None:
            from reftune import processes

            processes.refuse_several("--jobs")
            return run_jobs(args, job_options(), build_job, existing)
        return _run_one(args, existing)


def _reuse(args: argparse.Namespace) -> AbstractContextManager:
    """Have the options of reuse hold."""
    sizes = [None if size is None else int(size * 1e9) for size in _reuse_sizes(args)]
    from reftune.reuse import reuse_within, without_reuse

    return without_reuse() if args.no_reuse else reuse_within(sizes[0], sizes[1] or 0)


def _reuse_sizes(args: argparse.Namespace) -> tuple[float | None, float | None]:
    sizes = args.reuse_memory, args.reuse_disk
    for name, size in zip(("--reuse-memory", "--reuse-disk"), sizes, strict=True):
        if size is not None and not 0 <= size < float("inf"):
            raise ValueError(f"{name} {size}: expected gigabytes")
        if size is not None and args.no_reuse:
            raise ValueError(f"{name} {size}: expected none with --no-reuse")
    return sizes


def _run_one(args: argparse.Namespace, existing: Any) -> int:
    if args.data is None or args.out is None:
        raise ValueError("expected --data and --out, or --jobs")
    if args.rows_per_pass is not None:
        raise ValueError("--rows-per-pass is for --jobs; expected --batch-size")
    from reftune import processes
    from reftune.training import train

    processes.join()
    ready = processes.together(lambda: _ready(args, existing))
    model, tokenizer, rows, recipe, held_out = ready
    result = train(model, tokenizer, rows, args.out, recipe, existing, held_out)
    if processes.is_first():
        print_facts(facts_of(result), args.json)
    processes.leave()
    return 0


def _ready(args: argparse.Namespace, existing: Any) -> tuple[Any, ...]:
    """Return the model with its adapter, the tokenizer, the rows, the recipe, held-out rows."""
    config, recipe = build_job(args)
    from peft import get_peft_model
    from transformers import set_seed

    from reftune.data import load_rows
    from reftune.output_folder import check_output

    check_output(Path(args.out), existing)
    rows = load_rows(args.data)
    held_out = load_rows(args.eval_data, split="validation") if args.eval_data else None
    base, tokenizer = load_base(resolve_model(args.model), args.dtype)
    set_seed(recipe.seed)
    return get_peft_model(base, config), tokenizer, rows, recipe, held_out


def job_options() -> dict[str, argparse.Action]:
    """Return the options that a job of ``--jobs`` may have, by name."""
    parser = argparse.ArgumentParser(add_help=False)
    for add in (_add_data_options, _add_adapter_options, _add_recipe_options):
        add(parser)
    return {action.dest: action for action in parser._actions}


def build_job(args: argparse.Namespace) -> tuple[Any, Any]:
    """Make the adapter's config and the recipe from the options."""
    layers, decode = parse_layers(args.layers), parse_decode(args.decode)
    from reftune import ReftConfig
    from reftune.recipe import TrainingRecipe

    config = ReftConfig(
        task_type="CAUSAL_LM",
        layers=layers,
        positions=args.positions,
        r=args.r,
        intervention=args.intervention,
        component=args.component,
        tied=not args.untied,
        dropout=args.dropout,
        dropout_on=args.dropout_on,
        act_fn=args.act_fn,
        init=args.init,
        decode=decode,
    )
    given = {name: getattr(args, name, None) for name in (f.name for f in fields(TrainingRecipe))}
    recipe = TrainingRecipe(**{name: value for name, value in given.items() if value is not None})
    return config, recipe


def parse_layers(text: str) -> list[int] | str:
    """Read ``all``, ``3;9;18;24``, ``3,9``, ``0-5``, ``-1`` or a mixture.

    Raises:
        ValueError: the text is none of these.
    """
    if text == "all":
        return text
    layers: list[int] = []
    for part in re.split("[;,]", text):
        ends = re.fullmatch(r"\s*(-?\d+)(?:-(\d+))?\s*", part)
        if ends is None:
            raise ValueError(f'layers "{text}": expected e.g. "all", "3;9;18;24", "3,9" or "0-5"')
        first = int(ends[1])
        last = first if ends[2] is None else int(ends[2])
        if last < first:
            raise ValueError(f'layers "{text}": the range {part.strip()} is empty')
        layers.extend(range(first, last + 1))
    return layers


def parse_decode(text: str) -> int | str:
    """Read a number of tokens, or leave the word to the config to judge."""
    return int(text) if text.isdecimal() else text
