"""The table of the methods: what each was, in the words of a recipe."""

from typing import Any

from comparison.markdown import table
from comparison.settings import METHODS, Compared

INTRODUCTION = """\
## The methods

As a recipe has them ([methods](methods.md)); what is not said is the default.
"""


def method_table() -> str:
    """Return a line per method: its name in recipes, its options, the rates that were tried."""
    encoder, decoder = METHODS["encoder"], METHODS["decoder"]
    rows = [_line(*both) for both in zip(encoder, decoder, strict=True)]
    return f"{INTRODUCTION}\n{table(['', 'method', 'options', 'first rates'], rows)}\n"


def _line(encoder: Compared, decoder: Compared) -> tuple[str, ...]:
    one = decoder if decoder.only == "decoder" else encoder
    said = _said(one.options)
    if not one.only and encoder.options != decoder.options:
        said = f"encoder: {said}; decoder: {_said(decoder.options)}"
    rates = ", ".join(f"{rate:g}" for rate in one.rates)
    of = f" ({one.only} alone)" if one.only else ""
    return one.name + of, f"`{one.method}`", said, rates


def _said(options: dict[str, Any]) -> str:
    parts = [
        f"{name} ({_said(value)})" if isinstance(value, dict) else f"{name} {value}"
        for name, value in options.items()
    ]
    return ", ".join(parts)
