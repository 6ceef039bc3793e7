"""`reftune run`: an experiment over its seeds."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.cli.console import table
from reftune.cli.loading import DTYPE_HELP
from reftune.cli.set_names import set_names
from reftune.dtypes import DTYPES

EXAMPLES = """\
examples:
  reftune run --list
  reftune run commonsense --data datasets/ --out commonsense-7b
  reftune run commonsense --model tiny-chat --data datasets/ --tests boolq --train boolq \\
      --train-rows 500 --test-rows 100 --seeds 1,2 --out small
  reftune run glue-base-cola --data hub --out cola
  reftune run classification --data hub:stanfordnlp/imdb --out imdb --seeds 42
  reftune run my-recipe.yaml --data datasets/ --out mine

recipe: the name of one that comes with reftune, or a YAML file of the same form.
data, for language tasks: a folder in the layout of LLM-Adapters: commonsense_170k.json,
boolq/test.json and so on. For classification: a folder with train, validation and test as TSV, CSV,
JSON, JSONL or Parquet; for GLUE also the folder above its own CoLA, SST-2 and so on. Or from the
hub: hub (the task's own place), hub:OWNER/NAME or hub:OWNER/NAME:CONFIG.
A run that was interrupted goes on where it stopped when the same command is given again. The
folder gets an adapter and the answers per seed, and result.json, which says all that is needed to
repeat it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="see below")
    parser.add_argument("--list", action="store_true", help="print the recipes and leave")
    parser.add_argument(
        "--data", metavar="D", help="folder with the sets of the task, or hub, see below"
    )
    parser.add_argument("--out", metavar="O", help="folder for everything")
    parser.add_argument("--model", metavar="M", help="another base model than the recipe's")
    parser.add_argument("--dtype", choices=DTYPES, help=f"{DTYPE_HELP} (the recipe's)")
    parser.add_argument("--train", metavar="SET", help="another training set")
    parser.add_argument(
        "--tests", type=set_names, metavar="SETS", help="other test sets, with commas between"
    )
    parser.add_argument("--seeds", metavar="N,N", help="other seeds")
    parser.add_argument("--train-rows", type=int, metavar="N", help="train on the first N rows")
    parser.add_argument("--test-rows", type=int, metavar="N", help="score the first N of each set")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the experiment, and print its scores."""
    from reftune.experiments.experiment import load_experiment, recipe_names

    if args.list:
        _print_recipes(recipe_names())
        return 0
    for name in ("recipe", "data", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"expected a recipe, --data and --out; {name} is missing")
    for name in ("train_rows", "test_rows"):
        rows = getattr(args, name)
        if rows is not None and rows < 1:
            raise ValueError(f"--{name.replace('_', '-')} {rows}: expected 1 or more")
    experiment = load_experiment(args.recipe, **_changes(args))
    from reftune.experiments.running import run_experiment

    result = run_experiment(experiment, args.data, args.out, args.train_rows, args.test_rows)
    print(json.dumps(result) if args.json else scores_table(result["mean"], result["seeds"]))
    return 0


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says otherwise than the recipe."""
    changes = {name: getattr(args, name) for name in ("model", "dtype", "train", "tests")}
    if args.seeds is not None:
        try:
            changes["seeds"] = [int(seed) for seed in args.seeds.split(",")]
        except ValueError:
            raise ValueError(f"--seeds {args.seeds}: expected numbers, as in 42,43") from None
    return {name: value for name, value in changes.items() if value is not None}


def scores_table(mean: dict[str, Any], seeds: list[dict[str, Any]]) -> str:
    """Lay out scores: a line per test set, a column per seed."""
    if not mean:
        return f"answers of {len(seeds)} seeds are written; their judge is not part of reftune"
    from reftune.report.naming import deviation_shown, metric_of, shown

    rows = []
    for name, value in mean.items():
        each = [seed["scores"].get(name) for seed in seeds]
        # The average of sets has the metric that they have in common.
        metric = metric_of((each[0] or next(iter(seeds[0]["scores"].values())))["metric"])
        each_shown = [shown(one["value"], metric) if one else "" for one in each]
        spread = value["deviation"]
        deviation = "" if spread is None else deviation_shown(spread, metric)
        rows.append((name, metric.label, *each_shown, shown(value["mean"], metric), deviation))
    header = ["test set", "metric", *(f"seed {seed['seed']}" for seed in seeds)]
    return table(rows, [*header, "mean", "deviation"])


def _print_recipes(names: list[str]) -> None:
    from reftune.experiments.experiment import load_experiment

    loaded = [(name, load_experiment(name)) for name in names]
    rows = [
        (name, one.task, Path(one.model).name, one.method, f"{one.trainable or 0:,}")
        for name, one in loaded
    ]
    print(table(rows, ["recipe", "task", "model", "method", "trained numbers"]))
