"""The space of a search: for every setting its choices, or a range."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from reftune.recipe import TrainingRecipe
from reftune.tuning.layer_choices import layers_named, sensible_choices
from reftune.tuning.setting import Setting


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, evenly by logarithm if ``log``."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, tuple[Any, ...] | Range]

NAMES = tuple(one.name for one in fields(Setting))
# The author's advice (arXiv 2404.03592, appendix D.2): where and rank first, these last.
LAST = ("warmup", "dropout", "weight_decay")
KINDS = {one.name: type(one.default) for one in fields(Setting)}
RANGED = tuple(name for name in NAMES if KINDS[name] is float)


def default_space(depth: int, width: int) -> dict[str, tuple[Any, ...] | Range]:
    """Return the space that is searched where the user says nothing.

    Args:
        depth: layers of the model.
        width: of its hidden states, which no rank can exceed.
    """
    return {
        "layers": sensible_choices(depth),
        "positions": ("f7+l7", "f5+l5", "f3+l3", "f1+l1", "l1", "all"),
        "r": tuple(rank for rank in (4, 8, 16, 32, 2, 1) if rank <= width),
        "tied": (True, False),
        "intervention": ("loreft",),
        "dropout": (0.0, 0.05, 0.1, 0.2),
        # Orthonormal edits bear high rates, and of few steps those are the best (docs/RESULTS.md).
        "lr": Range(1e-4, 1e-1, log=True),
        "warmup": (0.1, 0.0, 0.3),
        "weight_decay": (0.0, 0.01, 0.1),
    }


def read_space(file: str | Path) -> dict[str, Any]:
    """Read a YAML file of names and values; what the values mean, `narrowed` checks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or no names and values.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f'space "{path}": no such file')
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'space "{path}": not YAML ({error})') from None
    if not isinstance(said, dict):
        raise ValueError(f'space "{path}": expected names and values, got {said!r:.60}')
    return said


def narrowed(said: Mapping[str, Any], depth: int, width: int) -> Space:
    """Return the default space with what a user says of it.

    Args:
        said: by name one value, which is fixed; a list of choices; or, for a number that is not
            whole, ``{"from": low, "to": high}``.
        depth: layers of the model.
        width: of its hidden states.

    Raises:
        ValueError: an unknown name, or a value that has no meaning; says which.
    """
    space = default_space(depth, width)
    for name, value in said.items():
        if name not in space:
            raise ValueError(f"space: unknown name {name!r}; expected some of {', '.join(NAMES)}")
        space[name] = _range(name, value) if isinstance(value, dict) else _choices(name, value)
        for choice in _ends(space[name]):
            _check(name, choice, depth, width)
    if space["tied"] == (False,):
        for positions in _ends(space["positions"]):
            if Setting(positions=positions, tied=False).sensible().tied:
                raise ValueError(
                    f"space: positions {positions!r} with tied false; expected first and last ones "
                    'such as "f7+l7", or tied true too'
                )
    return space


def size(space: Space, names: Iterable[str] = NAMES) -> float:
    """Return how many settings a space has; infinitely many with a range."""
    return math.prod(_count(space[name]) for name in names)


def _count(values: tuple[Any, ...] | Range) -> float:
    if isinstance(values, tuple):
        return len(values)
    return 1 if values.low == values.high else math.inf


def _ends(values: tuple[Any, ...] | Range) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values.low, values.high)


def _range(name: str, value: dict) -> Range:
    if name not in RANGED or set(value) != {"from", "to"}:
        forms = 'or {"from": low, "to": high}' if name in RANGED else "and no range"
        raise ValueError(
            f"space: {name} is {value!r:.60}; expected a value, a list of them, {forms}"
        )
    low, high = (_value(name, value[end]) for end in ("from", "to"))
    if not low <= high:
        raise ValueError(
            f"space: {name} from {low} to {high} is empty; expected the lower end first"
        )
    return Range(low, high, log=name == "lr")


def _choices(name: str, value: Any) -> tuple[Any, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise ValueError(f"space: {name} has no values; expected at least one")
    return tuple(dict.fromkeys(_value(name, one) for one in listed))


def _value(name: str, value: Any) -> Any:
    """Return a value in the type of its setting."""
    kind, truth = KINDS[name], isinstance(value, bool)
    if name == "layers" and not truth:
        return ";".join(map(str, value)) if isinstance(value, list) and value else str(value)
    if kind is float and not truth:
        try:
            return float(value)  # YAML takes 1e-3 for a text
        except (TypeError, ValueError):
            pass
    if isinstance(value, kind) and (kind is bool or not truth):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    raise ValueError(f"space: {name} is {value!r:.60}; expected {names[kind]}")


def _check(name: str, value: Any, depth: int, width: int) -> None:
    """Let the parts that a setting is for judge it."""
    try:
        if name == "layers":
            layers_named(value, depth)
        elif name != "tied":
            setting = replace(Setting(), **{name: value})
            setting.config()
            setting.recipe(TrainingRecipe(), epochs=1, seed=0)
        if name == "r" and value > width:
            raise ValueError(f"r {value}: expected at most {width}, the width of the model")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} {value}: expected a finite number")
    except ValueError as error:
        raise ValueError(f"space: {error}") from error
