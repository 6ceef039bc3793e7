"""`reftune eval`: the scores of a model on a task."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.cli.console import table
from reftune.cli.loading import add_model_options, load_base, resolve_model

EXAMPLES = """\
examples:
  reftune eval --task commonsense --data datasets/ --tests boolq,piqa --adapter a --out scores/
  reftune eval --task arithmetic --data datasets/ --model meta-llama/Llama-2-7b-hf --out scores/
  reftune eval --task arithmetic --data datasets/ --tests SVAMP --adapter my-lora --model M --out s/

adapter: a folder or hub id of PEFT, of any method; none: the model as it is.
data: a folder in the layout of LLM-Adapters, boolq/test.json and so on; sets that are missing are
an error, unless --tests leaves them out.
A run that was killed goes on where it stopped when the same command is given again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    tasks = ("commonsense", "arithmetic", "gsm8k", "instructions")
    parser.add_argument("--task", required=True, choices=tasks, help="prompts and scoring")
    parser.add_argument("--data", required=True, metavar="D", help="folder with the test sets")
    parser.add_argument("--out", required=True, metavar="O", help="folder for the answers")
    parser.add_argument("--tests", metavar="SETS", help="test sets (all of the task)")
    parser.add_argument("--adapter", metavar="A", help="folder or hub id (none: the base model)")
    add_model_options(parser)
    parser.add_argument("--batch-size", type=int, default=16, help="prompts answered at once (16)")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="of an answer (the task's)")
    parser.add_argument("--rows", type=int, metavar="N", help="ask the first N of each set")
    parser.add_argument("--overwrite", action="store_true", help="answer everything anew")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Answer, score, and print the scores."""
    if args.rows is not None and args.rows < 1:
        raise ValueError(f"--rows {args.rows}: expected 1 or more")
    from reftune.generation import GenerationSettings
    from reftune.tasks import TASKS
    from reftune.tasks.folder import find_set, read_set
    from reftune.tasks.scoring import score_set

    task, out = TASKS[args.task], Path(args.out)
    names = args.tests.split(",") if args.tests else task.tests
    sets = {name: read_set(find_set(args.data, name, "test"))[: args.rows] for name in names}
    longest = task.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens
    settings = GenerationSettings(longest, batch_size=args.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = _load(args)
    scores: dict[str, Any] = {}
    for name, rows in sets.items():
        file = out / f"{name}.jsonl"
        score = score_set(model, tokenizer, task, rows, file, settings, args.overwrite)
        low, high = score.interval() if score else (None, None)
        scores[name] = {
            "accuracy": score.accuracy if score else None,
            "low": low,
            "high": high,
            "rows": len(rows),
            "answers": str(file),
        }
    if args.json:
        print(json.dumps(scores))
        return 0
    shown = [
        (name, one["rows"], _percent(one["accuracy"]), _percent(one["low"]), _percent(one["high"]))
        for name, one in scores.items()
    ]
    print(table(shown, ["test set", "rows", "accuracy, %", "from", "to (95%)"]))
    return 0


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _load(args: argparse.Namespace) -> tuple[Any, Any]:
    """Load the model, with an adapter of whatever method, and the tokenizer."""
    if args.adapter is None:
        return load_base(resolve_model(args.model), args.dtype)
    from peft import PeftConfig, PeftModel

    import reftune  # makes PEFT know the method  # noqa: F401

    try:
        own = PeftConfig.from_pretrained(args.adapter).base_model_name_or_path
        model, tokenizer = load_base(resolve_model(args.model or own), args.dtype)
        return PeftModel.from_pretrained(model, args.adapter).eval(), tokenizer
    except (RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'adapter "{args.adapter}" cannot be put on the model ({reason})'
        ) from error
