"""`reftune eval`: the scores of a model on a task."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.cli.console import table
from reftune.cli.loading import add_model_options, resolve_model
from reftune.cli.set_names import set_names

EXAMPLES = """\
examples:
  reftune eval --task commonsense --data datasets/ --tests boolq,piqa --adapter a --out scores/
  reftune eval --task arithmetic --data datasets/ --model meta-llama/Llama-2-7b-hf --out scores/
  reftune eval --task arithmetic --data datasets/ --tests SVAMP --adapter my-lora --model M --out s/
  reftune eval --task cola --data hub --adapter cola/seed-42/adapter --out scores/
  reftune eval --task classification --data test.csv --model my/classifier --out scores/

adapter: what reftune run wrote, or a folder or hub id of PEFT, of any method; none: the model as it
is. A classifier needs a trained head, in the adapter or in the model.
data: as for reftune run. Language tasks: boolq/test.json and so on; sets that are missing are an
error, unless --tests leaves them out. GLUE: the validation set, all of it.
How questions are answered, how references are cut, and --dtype are as in the run that trained the
adapter for this task, unless options say otherwise; where no run tells, the task's, 512 tokens, and
the dtype of the model's files. Answers that were begun are gone on with when the same command is
given again.
"""
TASK_NAMES = (
    *("commonsense", "arithmetic", "gsm8k", "instructions"),
    *("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb", "classification"),
)
BATCH = 16
OF_ANSWERS = ("max_new_tokens", "no_repeat_ngram", "repetition_penalty")
HEADER = ("test set", "rows or tokens", "metric", "value", "from", "to (95%)")
WRITTEN = "the answers are written; their judge is not part of reftune"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = ", ".join(TASK_NAMES)
    parser.add_argument(
        "--task", required=True, choices=TASK_NAMES, metavar="T", help=f"one of {names}"
    )
    parser.add_argument("--data", required=True, metavar="D", help="folder, file or hub, see below")
    parser.add_argument("--out", required=True, metavar="O", help="folder for the answers")
    parser.add_argument(
        "--tests", type=set_names, metavar="SETS", help="test sets (all of the task)"
    )
    parser.add_argument("--adapter", metavar="A", help="folder or hub id (none: the base model)")
    add_model_options(parser)
    parser.set_defaults(dtype=None)
    parser.add_argument("--batch-size", type=int, help=f"rows at once (the run's, or {BATCH})")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="of an answer")
    parser.add_argument("--no-repeat-ngram", type=int, metavar="N", help="tokens in a row")
    parser.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1: less")
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="of a reference answer with its prompt"
    )
    parser.add_argument("--rows", type=int, metavar="N", help="score the first N of each set")
    parser.add_argument("--overwrite", action="store_true", help="answer everything anew")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Answer, score, and print the scores."""
    for name in ("rows", "batch_size"):
        number = getattr(args, name)
        if number is not None and number < 1:
            raise ValueError(f"--{name.replace('_', '-')} {number}: expected 1 or more")
    from reftune.tasks import TASKS, Task

    task = TASKS[args.task]
    if isinstance(task, Task):
        scores = _score_language(args, task, args.tests or task.tests)
    else:
        scores = _score_classes(args, task, args.tests)
    if args.json:
        print(json.dumps(scores))
        return 0
    print(table([_line(*one) for one in scores.items()], HEADER) if scores else WRITTEN)
    return 0


def _line(name: str, one: dict[str, Any]) -> tuple[Any, ...]:
    from reftune.report.naming import metric_of, shown

    metric = metric_of(one["metric"])
    low, high = [shown(end, metric) for end in one["interval"] or ()] or ("", "")
    return name, one["total"], metric.label, shown(one["value"], metric), low, high


def _score_language(args: argparse.Namespace, task: Any, names: Any) -> dict[str, Any]:
    from reftune.experiments.evaluating import score_language_model
    from reftune.tasks.sets import load_set

    sets = {name: load_set(task, args.data, name, "test").first(args.rows) for name in names}
    given = {name: getattr(args, name) for name in (*OF_ANSWERS, "batch_size")}
    generation = {name: value for name, value in given.items() if value is not None}
    out, longest = Path(args.out), args.max_length
    scores = score_language_model(
        task, _wanted(args), sets, out, generation, longest, args.overwrite
    )
    files = {score: f"{name}.jsonl" for name in sets for score in (name, f"{name} loss")}
    return {name: {**one, "answers": str(out / files[name])} for name, one in scores.items()}


def _score_classes(args: argparse.Namespace, task: Any, names: Any) -> dict[str, Any]:
    from reftune.experiments.evaluating import read_test_sets, score_classifier

    for name in (*OF_ANSWERS, "max_length"):
        if getattr(args, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected none, {task.name} has classes")
    sets = read_test_sets(task, args.data, names, args.rows)
    out = Path(args.out)
    scores = score_classifier(task, _wanted(args), sets, out, args.batch_size or BATCH)
    return {
        name: {**one, "leaked": False, "answers": str(out / f"{name}.jsonl")}
        for name, one in scores.items()
    }


def _wanted(args: argparse.Namespace) -> Any:
    """Return which model is to be scored: the bundled one if nothing is said."""
    from reftune.experiments.wanted import Wanted

    named = args.model is not None or args.adapter is None
    return Wanted(resolve_model(args.model) if named else None, args.adapter, args.dtype)
