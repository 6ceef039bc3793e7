"""`reftune convert`: between checkpoints of pyreft and adapters of reftune."""

import argparse
from pathlib import Path

from reftune.cli.console import note
from reftune.cli.loading import adapter_folder

EXAMPLES = """\
examples:
  reftune convert pyreft-checkpoint adapter --positions f3+l3
  reftune convert someone/their-pyreft-checkpoint adapter --positions l1 \\
      --base-model meta-llama/Llama-3.2-1B-Instruct
  reftune convert results/checkpoint-50 adapter --positions f7+l7 \\
      --intervention NoreftIntervention         # a Trainer's checkpoint does not tell which it is
  reftune convert adapter pyreft-checkpoint --to pyreft

pyreft stores neither positions nor whether they are tied, no activation and no dropout: give what
the checkpoint was trained with. What is not known is assumed, and said, one line each.
"""
# Options that only the way to reftune has.
ONE_WAY = ("positions", "base_model", "intervention", "act_fn", "dropout", "tied")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", metavar="FOLDER", help="what is converted: a folder or a hub id")
    parser.add_argument("out", metavar="OUT", help="folder for the result")
    parser.add_argument("--to", choices=("reftune", "pyreft"), default="reftune", help="(reftune)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    group = parser.add_argument_group("what pyreft does not store")
    group.add_argument("--positions", help="fK, lK, fK+lM or all; always needed")
    group.add_argument("--base-model", metavar="M", help="folder or hub id; its config is read")
    group.add_argument("--intervention", metavar="CLASS", help="such as NoreftIntervention")
    group.add_argument("--act-fn", metavar="F", help="activation around Wh + b (none)")
    group.add_argument("--dropout", type=float, metavar="P", help="in training (0)")
    tying = group.add_mutually_exclusive_group()
    tying.add_argument("--tied", action="store_true", default=None, help="expect one edit a layer")
    tying.add_argument(
        "--untied", dest="tied", action="store_false", default=None, help="expect two of them"
    )


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was assumed."""
    given = [name for name in ONE_WAY if getattr(args, name) is not None]
    if args.to == "pyreft" and given:
        raise ValueError(f"--{given[0].replace('_', '-')}: expected only with --to reftune")
    from reftune.pyreft.checkpoints.folders import fetch
    from reftune.pyreft.conversion.convert import check_output, to_pyreft, to_reftune
    from reftune.pyreft.conversion.unstored import Unstored

    check_output(Path(args.out), args.overwrite, Path(args.folder))
    if args.to == "pyreft":
        said = to_pyreft(adapter_folder(args.folder), args.out, args.overwrite)
    else:
        if args.positions is None:
            raise ValueError("--positions: expected e.g. f3+l3, as pyreft does not store them")
        unstored = Unstored(args.positions, args.tied, args.act_fn, args.dropout)
        folder = fetch(args.folder)
        if (folder / "adapter_config.json").is_file():
            raise ValueError(f'"{folder}" is an adapter; expected a checkpoint, or --to pyreft')
        said = to_reftune(
            folder, args.out, unstored, args.base_model, args.intervention, args.overwrite
        )
    for line in said:
        note(line)
    print(args.out)
    return 0
