"""`reftune demo`: the emoji chatbot of the ReFT tutorial."""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reftune.cli.console import clip, print_facts, table

EXAMPLES = """\
examples:
  reftune demo
  reftune demo --out emoji-adapter            # keep the adapter here
  reftune demo --json | jq .adapter_share
  reftune chat --adapter emoji-adapter        # afterwards
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", metavar="O", help="folder for the adapter (a temporary one)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show the base model, train, show the adapter, and load it again."""
    import torch

    from reftune.demo import run_demo

    # So small a model gains nothing from more, and waits for cores that others use.
    torch.set_num_threads(1)
    out = Path(args.out) if args.out else Path(tempfile.mkdtemp(prefix="reftune-emoji-"))
    show = _silent if args.json else _show
    result = run_demo(out, show, "overwrite" if args.overwrite else "refuse")
    if args.json:
        print(json.dumps(asdict(result), ensure_ascii=False))
        return 0
    facts = {
        "trainable_parameters": result.trainable_parameters,
        "seconds_of_training": round(result.seconds, 1),
        "size_bytes": result.adapter_bytes,
        "emoji_alone_base": f"{result.base_share:.0%} of {len(result.prompts)} answers",
        "emoji_alone_adapter": f"{result.adapter_share:.0%} of {len(result.prompts)} answers",
        "same_answers_after_loading": result.same_after_loading,
        "saved_in": str(out),
    }
    print()
    print_facts(facts, as_json=False)
    print(f"\nGo on: reftune chat --adapter {out}")
    return 0


def _show(title: str, columns: dict[str, list[str]]) -> None:
    print(f"\n{title}\n")
    if columns:
        rows = [[clip(cell, 56) for cell in row] for row in zip(*columns.values(), strict=True)]
        print(table(rows, list(columns)), flush=True)


def _silent(title: str, columns: dict[str, Any]) -> None:
    """Show nothing: the JSON has it all."""
