"""`reftune tune`: layers, positions, rank and learning rate for your data."""

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

from reftune.cli.console import note, table
from reftune.cli.loading import add_model_options, load_base, resolve_model

EXAMPLES = """\
examples:
  reftune tune --data tips.jsonl --out search
  reftune tune --model meta-llama/Llama-3.2-1B-Instruct --dtype bfloat16 \\
      --data tips.jsonl --eval-data held-out.jsonl --out search --trials 80 --minutes 120
  reftune tune --data tips.jsonl --out search --space space.yaml
  reftune train --data tips.jsonl --jobs search/best.yaml --out tips-adapter   # use what it found

space: a YAML file; a value is fixed, of a list one is chosen, from a range any number:
  layers: [all, last-third, "3;9;18"]       # also middle, every-second, first-third, a number ...
  positions: f7+l7
  r: [4, 8]
  lr: {from: 1e-4, to: 1e-2}
  further names: tied, intervention, dropout, warmup, weight_decay
The same command goes on with a search that was stopped; with more --trials, with one that ended.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", metavar="D", required=True, help="the examples, as for train")
    parser.add_argument("--out", metavar="O", required=True, help="folder of the search")
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument("--eval-data", metavar="D", help="held-out examples, to score on")
    held_out.add_argument(
        "--held-out", type=float, metavar="S", help="or the share of the data to hold out (0.1)"
    )
    add_model_options(parser)
    # The defaults are those of TuningPlan and TrainingRecipe, not imported for the help's sake.
    group = parser.add_argument_group("the search")
    group.add_argument("--space", metavar="F", help="what to search, see below")
    group.add_argument("--trials", type=int, metavar="N", help="settings to try (40)")
    group.add_argument("--minutes", type=float, metavar="N", help="begin no trial after them")
    group.add_argument("--at-once", type=int, metavar="N", help="trials trained together (8)")
    group.add_argument("--rungs", type=int, metavar="N", help="1: stop no trial early (3)")
    group.add_argument("--seeds", type=int, metavar="N", help="to measure the noise with (3)")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object")
    group = parser.add_argument_group("all trainings")
    group.add_argument("--epochs", type=float, help="passes over the data (3)")
    group.add_argument("--batch-size", type=int, help="rows per step (16)")
    group.add_argument("--accumulation", type=int, help="steps per update (1)")
    group.add_argument("--max-length", type=int, help="longest row in tokens (512)")
    group.add_argument("--template", choices=("auto", "chat", "plain"), help="of the rows (auto)")
    group.add_argument("--seed", type=int, help="of the trials and of what is held out (42)")


def run(args: argparse.Namespace) -> int:
    """Search, and print what was found."""
    from reftune.data import load_rows
    from reftune.tuning.held_out import split_rows
    from reftune.tuning.records import check_folder
    from reftune.tuning.search import tune
    from reftune.tuning.study import need_optuna

    need_optuna()
    plan = _plan(args)
    check_folder(Path(args.out))
    rows = load_rows(args.data)
    if args.eval_data:
        held_out = load_rows(args.eval_data, split="validation")
    else:
        share = 0.1 if args.held_out is None else args.held_out
        rows, held_out = split_rows(rows, share, plan.recipe.seed)
    model, tokenizer = load_base(resolve_model(args.model), args.dtype)
    result = tune(model, tokenizer, rows, held_out, args.out, plan, _tell)
    if args.json:
        print(result.as_json())
    else:
        _print(result, args)
    return 0


def _plan(args: argparse.Namespace) -> Any:
    from reftune.recipe import TrainingRecipe
    from reftune.tuning.plan import TuningPlan
    from reftune.tuning.space import read_space

    names = ("epochs", "batch_size", "accumulation", "max_length", "template", "seed")
    recipe = TrainingRecipe(**_given(args, names))
    space = read_space(args.space) if args.space else {}
    names = ("trials", "minutes", "at_once", "rungs", "seeds")
    return TuningPlan(space=space, recipe=recipe, **_given(args, names))


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _tell(text: str) -> None:
    note(text)


def _print(result: Any, args: argparse.Namespace) -> None:
    header = ["", "layers", "positions", "r", "lr", "further", "parameters", "held-out loss"]
    rows = [["no adapter", *["-"] * 5, "0", f"{result.base_loss:.4f}"]]
    for name in ("default", "best", "cheapest"):
        rows.append(_row(name, getattr(result, name)))
    print(table(rows, header))
    seeds = len(result.best.losses)
    lower = result.default.mean - result.best.mean
    told = "more than noise makes" if result.better else "which is no proof: noise can make as much"
    print(
        f"\nLosses are means over {seeds} seeds that the search did not use; "
        f"one training varies by ±{result.noise:.2g}."
    )
    if lower > 0:
        print(f"The best is {lower:.4f} below the default, {told}.")
    elif math.isnan(result.default.mean):
        print("The default diverged: take the best.")
    else:
        print("The best is no better than the default: keep the default.")
    if result.cheapest == result.best:
        print("No trial with fewer parameters was as good.")
    command = ["reftune", "train", *(["--model", args.model] if args.model else [])]
    command += [] if args.dtype == "auto" else ["--dtype", args.dtype]
    command += ["--data", args.data, "--jobs", str(result.out / "best.yaml"), "--out", "FOLDER"]
    print(f"\nThe adapter of the best trial is {result.out / 'best'}. To train with its setting:")
    print(f"  {shlex.join(command)}")


def _row(name: str, one: Any) -> list[str]:
    setting = one.setting
    training = {name: getattr(setting, name) for name in ("dropout", "warmup", "weight_decay")}
    further = [
        *([] if setting.tied else ["untied"]),
        *([] if setting.intervention == "loreft" else [setting.intervention]),
        *(f"{name} {value:g}" for name, value in training.items() if value),
    ]
    return [
        name,
        setting.layers,
        setting.positions,
        str(setting.r),
        f"{setting.lr:.2g}",
        ", ".join(further) or "-",
        f"{one.parameters:,}",
        f"{one.mean:.4f} ± {one.deviation:.4f}",
    ]
