"""The names of test sets, as a command line has them."""

import argparse


def set_names(text: str) -> list[str]:
    """Read names with commas between.

    Raises:
        argparse.ArgumentTypeError: a name is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f'"{text}": expected names of sets, as in boolq,piqa')
    return names
