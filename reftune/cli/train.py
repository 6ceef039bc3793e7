"""`reftune train`: from rows to an adapter."""

import argparse
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from reftune.cli.console import print_facts
from reftune.cli.loading import add_model_options, load_base, resolve_model

EXAMPLES = """\
examples:
  reftune train --data tips.jsonl --out tips-adapter
  reftune train --model meta-llama/Llama-3.2-1B-Instruct --dtype bfloat16 \\
      --data tatsu-lab/alpaca --layers "3;9;18;24" --positions f5+l5 --untied --out alpaca-adapter
  reftune train --data tips/ --layers 4 --positions l1 --epochs 50 --lr 4e-3 --out tips-adapter
  reftune train --data tips/ --layers 4 --positions l1 --epochs 50 --lr 4e-3 --out tips-adapter \\
      --resume                                # after an interruption: the same command goes on

data: a JSONL, JSON, CSV or Parquet file, a folder of those, or a hub id (owner/name:split), with
  "prompt" + "completion", "messages", or "instruction" (+ "input") + "output" in each row.
layers: all, a list (3;9;18;24 or 3,9), a range (0-5), counted from the end (--layers=-1).
"""
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", required=True, metavar="D", help="the examples, see below")
    parser.add_argument("--out", required=True, metavar="O", help="folder for the adapter")
    parser.add_argument("--eval-data", metavar="D", help="held-out examples; their loss is logged")
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    there.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    _add_adapter_options(parser.add_argument_group("the adapter"))
    _add_recipe_options(parser.add_argument_group("the training"))


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
    group.add_argument("--max-length", type=int, help="longest row in tokens (512)")
    group.add_argument("--template", choices=("auto", "chat", "plain"), help="of the rows (auto)")
    group.add_argument("--seed", type=int, help="of weights, order and dropout (42)")
    group.add_argument("--save-steps", type=int, help="steps between checkpoints (100)")
    group.add_argument("--log-steps", type=int, help="steps between lines of the log (1)")
    group.add_argument("--eval-steps", type=int, help="steps between evaluations (an epoch)")


def run(args: argparse.Namespace) -> int:
    """Train, and print what came of it."""
    existing = "resume" if args.resume else "overwrite" if args.overwrite else "refuse"
    layers, decode = parse_layers(args.layers), parse_decode(args.decode)
    from transformers import set_seed

    from reftune.data import load_rows
    from reftune.output_folder import LOG_FILE, PICTURE, check_output
    from reftune.training import TrainingRecipe, train

    given = {name: getattr(args, name, None) for name in (f.name for f in fields(TrainingRecipe))}
    recipe = TrainingRecipe(**{name: value for name, value in given.items() if value is not None})
    config = build_config(args, layers, decode)
    check_output(Path(args.out), existing)
    rows = load_rows(args.data)
    eval_rows = load_rows(args.eval_data, split="validation") if args.eval_data else None
    model, tokenizer = load_base(resolve_model(args.model), args.dtype)
    set_seed(recipe.seed)
    from peft import get_peft_model

    adapted = get_peft_model(model, config)
    result = train(adapted, tokenizer, rows, args.out, recipe, existing, eval_rows)
    facts = {
        "adapter": str(result.out),
        "trainable_parameters": result.trainable_parameters,
        "size_bytes": result.adapter_bytes,
        "rows": result.rows,
        "rows_dropped": result.dropped.rows,
        "steps": result.steps,
        "loss": result.loss,
        "seconds": result.seconds,
        "log": str(result.out / LOG_FILE),
        "picture": str(result.out / PICTURE) if (result.out / PICTURE).exists() else None,
    }
    print_facts(facts, args.json)
    return 0


def build_config(args: argparse.Namespace, layers: list[int] | str, decode: int | str) -> Any:
    """Make the adapter's config from the options."""
    from reftune import ReftConfig

    return ReftConfig(
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
