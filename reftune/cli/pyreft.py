"""`reftune pyreft`: run a script or a notebook that was written for pyreft."""

import argparse

EXAMPLES = """\
examples:
  reftune pyreft train.py --model my-model --lr 4e-3
  reftune pyreft -m experiments.train --model my-model
  reftune pyreft main_demo.ipynb

In what it runs, `import pyreft` means reftune.pyreft, and transformers takes the arguments that
pyreft's scripts pass. Options of this command come before SCRIPT; what follows belongs to SCRIPT.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. All that comes after the script belongs to the script."""
    everything = argparse.REMAINDER
    parser.add_argument(
        "-m",
        dest="module",
        nargs=everything,
        metavar="MODULE",
        help="run a module, as `python -m` does; all that follows belongs to it",
    )
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help="a .py or an .ipynb file")
    parser.add_argument("arguments", nargs=everything, metavar="ARGS", help="of the script")
    # The warnings and tracebacks of a script are its own, and always shown.
    parser.set_defaults(debug=True)


def run(args: argparse.Namespace) -> int:
    """Run the script."""
    from reftune.pyreft.scripts.running import run

    return run(args.script, args.arguments, args.module)
