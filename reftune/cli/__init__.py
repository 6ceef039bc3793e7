"""The command-line tool: one module per sub-command, each with ``add_arguments`` and ``run``.

A sub-command imports what it needs when it runs; torch and PEFT come with the package itself, which
makes PEFT know the method.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from reftune.cli import (
    chat,
    convert,
    demo,
    evaluate,
    generate,
    info,
    keys,
    pyreft,
    report,
    run,
    serve,
    train,
    tune,
)
from reftune.cli.console import note
from reftune.processes import OtherProcessError, is_first

COMMANDS = {
    "demo": (demo, "watch ten examples turn a chat model into one that answers in emoji"),
    "train": (train, "train an adapter on your examples"),
    "generate": (generate, "answer many prompts, with or without an adapter"),
    "chat": (chat, "talk to a model in the terminal"),
    "run": (run, "run an experiment of the paper, or of your own, over its seeds"),
    "eval": (evaluate, "score a model, with or without an adapter, on the tasks of the paper"),
    "tune": (tune, "find layers, positions, rank and learning rate for your examples"),
    "report": (report, "write a page about a folder of runs: tables, pictures, samples, settings"),
    "serve": (serve, "serve a model and its adapters to many, behind OpenAI's API"),
    "keys": (keys, "make, list and revoke the API keys of a server"),
    "info": (info, "tell what an adapter is"),
    "convert": (convert, "turn a checkpoint of pyreft into an adapter, or back"),
    "pyreft": (pyreft, "run a script or a notebook that was written for pyreft"),
}
EXAMPLES = """\
examples:
  reftune demo
  reftune train --model meta-llama/Llama-3.2-1B-Instruct --data tips.jsonl --out tips-adapter
  reftune generate --adapter tips-adapter --data prompts.txt --out answers.jsonl
  reftune chat --adapter tips-adapter
  reftune info tips-adapter

`reftune COMMAND --help` shows all options of a command, with examples.
"""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with exit code 2."""
        print(f"reftune: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """Declare all commands and their options."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser(
        prog="reftune",
        description="Representation finetuning (ReFT) of language models: adapters of kilobytes.",
        epilog=EXAMPLES,
        formatter_class=layout,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=module.EXAMPLES, formatter_class=layout
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show tracebacks and warnings")
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit code: 0, 2 after a wrong input, 130 after Ctrl-C, 1 after an error of our own.
    """
    args = build_parser().parse_args(argv)
    if not args.debug:
        _be_quiet()
    try:
        return args.run(args)
    except KeyboardInterrupt as interrupt:
        if is_first():
            note(f"interrupted{_reason(interrupt)}{HINTS.get(args.command, '')}")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; say nothing more, also not when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OtherProcessError:
        return 2  # that one says what is wrong
    except (ValueError, OSError, ImportError) as error:
        if args.debug:
            raise
        print(f"reftune: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if args.debug:
            raise
        kind = type(error).__name__
        print(
            f"reftune: internal error: {kind}: {_one_line(error)} (--debug shows where)",
            file=sys.stderr,
        )
        return 1


HINTS = {
    "train": "; the same command with --resume goes on",
    "generate": "; the same command goes on where it stopped",
    "run": "; the same command goes on where it stopped",
    "tune": "; the same command goes on where it stopped",
    "eval": "; the same command goes on where it stopped",
}


def _reason(interrupt: KeyboardInterrupt) -> str:
    return f" ({interrupt})" if str(interrupt) else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _be_quiet() -> None:
    """Keep the libraries' warnings and bars off the terminal; errors speak for themselves."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "transformers" in sys.modules:  # which read its environment when it was imported
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
