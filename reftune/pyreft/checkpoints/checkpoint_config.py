"""What the `config.json` of a checkpoint says of each edit.

pyvene writes the representations as lists: twelve values, thirteen since `intervention` (0.1.0),
fourteen since `latent_dim` (0.1.8). The first five never changed, and they are all that is read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reftune.pyreft.checkpoints.key_names import KeyName, keys_of, modern, parse_key
from reftune.pyreft.checkpoints.pickles import checked_file, read_json

FIELDS = ("layer", "component", "unit", "max_number_of_units", "low_rank_dimension")
DEFAULTS = {"layer": 0, "component": "block_output", "unit": "pos", "max_number_of_units": 1}
MOST_VALUES = 14
# Classes of pyvene that train nothing, and of which no file is written.
UNTRAINED = {
    "AdditionIntervention",
    "CollectIntervention",
    "LambdaIntervention",
    "SkipIntervention",
    "SubtractionIntervention",
    "VanillaIntervention",
    "ZeroIntervention",
}
_CLASS = re.compile(r"(?:<class ')?(?P<path>[\w.<>]+?)(?:'>)?")


@dataclass(frozen=True)
class Entry:
    """One edit, as a config or the name of its file has it.

    Args:
        key, layer, component, unit, units, occurrence: see `SavedEdit`.
        intervention: name of its class, `None` if nothing says it.
        module: where that class was defined; empty if nothing says it.
        rank, width: of its matrices, `None` if nothing says them.
    """

    key: str
    layer: int | None
    component: str
    unit: str
    units: int
    occurrence: int
    intervention: str | None = None
    module: str = ""
    rank: int | None = None
    width: int | None = None


def read_config(file: Path) -> dict[str, Any]:
    """Read a config of pyreft; empty if there is no file, or that of something else.

    Raises:
        ValueError: the file is no JSON object.
    """
    if not (file.is_symlink() or file.exists()):
        return {}
    config = read_json(checked_file(file))
    if not isinstance(config, dict):
        raise ValueError(f'"{file}" holds {type(config).__name__}: expected a JSON object')
    return config if "representations" in config else {}


def entry_of_name(name: KeyName) -> Entry:
    """Return what the name of a file says of an edit."""
    return Entry(name.key, name.layer, name.component, name.unit, name.units, name.occurrence)


def entries_of(config: dict[str, Any], file: Path) -> list[Entry]:
    """Return the edits of a config, in the order in which pyvene loads and runs them.

    Args:
        config: of `read_config`.
        file: what errors call it.

    Raises:
        ValueError: a representation or class is not as pyvene writes it, or the lists of the config
            do not fit each other.
    """
    listed = config["representations"]
    if not isinstance(listed, list) or not listed:
        raise ValueError(f'"{file}": representations={listed!r}: expected a list of them')
    fields = [_fields(one, file) for one in listed]
    names = [(f["layer"], f["component"], f["unit"], f["max_number_of_units"]) for f in fields]
    keys = keys_of(names)
    _check_sorted_keys(config, keys, file)
    types = config.get("intervention_types")
    types = [types] * len(keys) if isinstance(types, str) else types
    widths = config.get("intervention_dimensions") or [None] * len(keys)
    for name, values in (("intervention_types", types), ("intervention_dimensions", widths)):
        if not isinstance(values, list) or len(values) != len(keys):
            raise ValueError(
                f'"{file}": {name} are {_short(values)}: expected one for each of the '
                f"{len(keys)} representations"
            )
    assert isinstance(types, list)
    entries = []
    for key, field, type_name, width in zip(keys, fields, types, widths, strict=True):
        module, name = _class_name(type_name, file)
        entries.append(
            Entry(
                key,
                field["layer"],
                field["component"],
                field["unit"],
                field["max_number_of_units"],
                int(key.rpartition("#")[2]),
                name,
                module,
                field["low_rank_dimension"],
                width if _is_count(width) else None,
            )
        )
    return entries


def _fields(one: Any, file: Path) -> dict[str, Any]:
    """Return the five fields of a representation, filled up as pyvene does."""
    given: dict[str, Any] = {}
    if isinstance(one, dict):
        given = {name: one[name] for name in FIELDS if name in one}
    elif isinstance(one, list) and len(one) <= MOST_VALUES:
        given = dict(zip(FIELDS, one, strict=False))
    else:
        raise ValueError(
            f'"{file}": a representation is {_short(one)}: expected a list of at most '
            f"{MOST_VALUES} values, or a dict"
        )
    fields = {"low_rank_dimension": None, **DEFAULTS, **given}
    layer, component = fields["layer"], fields["component"]
    if isinstance(layer, str) and re.fullmatch(r"-?\d{1,9}", layer, re.ASCII):
        fields["layer"] = layer = int(layer)
    if isinstance(component, str) and "." in component and not _is_int(layer):
        fields["layer"] = layer = None
    rank = fields["low_rank_dimension"]
    valid = (
        isinstance(component, str)
        and component.strip(".") != ""
        and (_is_int(layer) or "." in component)
        and isinstance(fields["unit"], str)
        and _is_count(fields["max_number_of_units"])
        and (rank is None or _is_count(rank))
    )
    if not valid:
        raise ValueError(
            f'"{file}": a representation is {_short(given)}: expected a layer index, the name or '
            "path of a component, a unit, a number of units and a rank"
        )
    return fields


def _check_sorted_keys(config: dict[str, Any], keys: list[str], file: Path) -> None:
    """Hold the keys of a config against those that follow from its representations."""
    listed = config.get("sorted_keys")
    if listed is None:
        return
    known = isinstance(listed, list) and all(
        isinstance(key, str) and parse_key(key) is not None for key in listed
    )
    if not known or sorted(map(modern, listed)) != sorted(keys):
        raise ValueError(
            f'"{file}": sorted_keys are {_short(listed)}: expected those of its representations, '
            f"{_short(keys)}"
        )


def _class_name(text: Any, file: Path) -> tuple[str, str]:
    """Return module and name of `"<class 'pyreft.interventions.LoreftIntervention'>"`."""
    match = _CLASS.fullmatch(text) if isinstance(text, str) else None
    module, _, name = match["path"].rpartition(".") if match else ("", "", "")
    if not name.isidentifier():
        raise ValueError(
            f'"{file}": an intervention type is {_short(text)}: expected e.g. '
            "\"<class 'pyreft.interventions.LoreftIntervention'>\""
        )
    return module, name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and 0 < value < 10**9
