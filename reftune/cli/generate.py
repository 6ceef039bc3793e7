"""`reftune generate`: answers to many prompts."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.cli.console import note
from reftune.cli.loading import (
    adapter_folder,
    add_model_options,
    load_adapter,
    load_base,
    resolve_model,
)

EXAMPLES = """\
examples:
  reftune generate --adapter tips-adapter --data questions.jsonl --out answers.jsonl
  reftune generate --adapter tips-adapter --data prompts.txt --out answers.jsonl --batch-size 64
  reftune generate --adapter tips-adapter --prompt "Who are you?" --prompt "Where do whales live?"
  reftune generate --model openai-community/gpt2 --prompt "Once upon a time" --temperature 0.8
  reftune generate --adapters adapters/ --data questions.jsonl --out answers.jsonl
  reftune generate --adapters adapters/ --data questions.jsonl --out answers.jsonl --ray auto

data: as for `reftune train`, with or without the answers, or a .txt file with one prompt per line.
A killed run goes on where it stopped when the same command is given again. Each line of the output
has the row's index and columns, and "output", the answer; an "output" of the row's own becomes
"input_output". With --adapters each row has an adapter of its own: its column "adapter" names a
sub-folder, and where it is empty, the row has that of --adapter, or the base model.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--data", metavar="D", help="the prompts, see below")
    asked.add_argument("--prompt", action="append", metavar="TEXT", help="one prompt; repeatable")
    parser.add_argument("--adapter", metavar="A", help="folder or hub id (none: the base model)")
    parser.add_argument("--adapters", metavar="DIR", help="adapters that rows name, see below")
    add_model_options(parser)
    parser.add_argument("--ray", metavar="ADDRESS", help='Ray cluster that answers, or "auto"')
    parser.add_argument(
        "--ray-workers", type=int, metavar="N", help="models on it (one per GPU or machine)"
    )
    parser.add_argument("--out", metavar="FILE", help="JSONL file (default: standard output)")
    parser.add_argument("--overwrite", action="store_true", help="start the file anew")
    add_settings_options(parser)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `build_settings` reads."""
    parser.add_argument("--max-new-tokens", type=int, help="longest answer (128)")
    parser.add_argument("--temperature", type=float, help="0: the likeliest token (0)")
    parser.add_argument("--top-p", type=float, help="share of probability to draw from (1)")
    parser.add_argument("--no-repeat-ngram", type=int, metavar="N", help="tokens in a row (0)")
    parser.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1: less (1)")
    parser.add_argument("--batch-size", type=int, help="prompts answered at once (16)")
    parser.add_argument("--template", choices=("auto", "chat", "plain"), help="of prompts (auto)")
    parser.add_argument("--seed", type=int, help="of the draws (42)")


def build_settings(args: argparse.Namespace) -> Any:
    """Make the settings from the options that were given."""
    from dataclasses import fields

    from reftune.generation import GenerationSettings

    given = {field.name: getattr(args, field.name) for field in fields(GenerationSettings)}
    return GenerationSettings(**{name: v for name, v in given.items() if v is not None})


def load_for(args: argparse.Namespace) -> tuple[Any, Any]:
    """Load the model, with the adapter if one is named, and the tokenizer."""
    folder = adapter_folder(args.adapter) if args.adapter else None
    model, tokenizer = load_base(resolve_model(args.model, folder), args.dtype)
    return (load_adapter(model, folder) if folder else model), tokenizer


def run(args: argparse.Namespace) -> int:
    """Answer into the file, or onto standard output."""
    if args.out and not Path(args.out).resolve().parent.is_dir():
        raise FileNotFoundError(f'output "{args.out}": there is no such folder to write into')
    if args.out and args.data and Path(args.out).resolve() == Path(args.data).resolve():
        raise ValueError(f'output "{args.out}" is the data; expected another file')
    if args.ray_workers is not None and (args.ray is None or args.ray_workers < 1):
        raise ValueError(f"ray workers {args.ray_workers}: expected 1 or more, and --ray")
    from datasets import Dataset

    from reftune.answers_file import answer_lines, write_answers
    from reftune.cli.answering import Answering
    from reftune.data import load_rows

    settings = build_settings(args)
    if args.data:
        rows = load_rows(args.data, split="test", answers=False)
    else:
        rows = Dataset.from_dict({"prompt": args.prompt})
    answering = Answering.of(args, rows, settings)
    if args.out is None:
        for line in answer_lines(rows, answering()):
            print(json.dumps(line, ensure_ascii=False), flush=True)
        return 0
    size, made_by = settings.batch_size, answering.made_by()
    there = write_answers(rows, answering, size, args.out, made_by, args.overwrite)
    if there:
        note(f"{there} of {len(rows)} rows were in {args.out} already (--overwrite starts anew)")
    note(f"{len(rows)} answers in {args.out}")
    return 0
