"""Sets of the Hugging Face hub, or of a folder in any form that `datasets` reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, DatasetDict, get_dataset_config_names, load_dataset

PREFIX = "hub"


@dataclass(frozen=True)
class HubSet:
    """One split: its rows, where it is from, and the classes that its label columns name."""

    rows: list[dict[str, Any]]
    origin: str
    classes: dict[str, tuple[str, ...]]


def is_hub(data: str | Path) -> bool:
    """Say whether data is to come from the hub: `hub`, or `hub:OWNER/NAME`."""
    return str(data).partition(":")[0] == PREFIX


def read_hub_set(
    data: str | Path, own: str, wanted: str, splits: Sequence[str], optional: bool = False
) -> HubSet | None:
    """Load one set.

    Args:
        data: `hub`, `hub:OWNER/NAME` or `hub:OWNER/NAME:CONFIG`; a folder may stand for the name.
        own: what `hub` alone stands for, in the same form without `hub:`; may be empty.
        wanted: the config to take where none is said: the one of that name, or the only one.
        splits: what the split may be called; the first that there is is taken.
        optional: whether there need not be such a split.

    Returns:
        The set, or `None` if it is optional and there is none.

    Raises:
        FileNotFoundError: there is no such set.
        ValueError: it has several configs, or no rows.
    """
    place = str(data).partition(":")[2] or own
    if not place:
        raise ValueError(
            f'data "{data}": {wanted} has no place of its own on the hub; '
            "expected hub:OWNER/NAME or a folder"
        )
    path, _, config = place.partition(":")
    try:
        config = config or _config(path, wanted)
        loaded: Any = load_dataset(path, config)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f'data "{data}": {_reason(error)}') from error
    except ValueError as error:
        raise ValueError(f'data "{data}": {_reason(error)}') from error
    assert isinstance(loaded, DatasetDict)
    origin = f"{PREFIX}:{path}:{config}"
    split = next((split for split in splits if split in loaded), None)
    if split is None and optional:
        return None
    if split is None:
        raise FileNotFoundError(
            f"{origin} has the splits {', '.join(map(str, loaded))}; expected {' or '.join(splits)}"
        )
    rows = loaded[split]
    if not len(rows):
        raise ValueError(f"{origin}, {split}: holds no rows; expected at least one")
    features = rows.features.items()
    classes = {name: tuple(one.names) for name, one in features if isinstance(one, ClassLabel)}
    return HubSet([dict(row) for row in rows], f"{origin}, {split}", classes)


def _config(path: str, wanted: str) -> str:
    names = get_dataset_config_names(path)
    same = [name for name in names if name.lower() == wanted.lower()]
    if same or len(names) == 1:
        return (same or names)[0]
    raise ValueError(
        f"has the configs {', '.join(names)}; expected one of them, as in hub:{path}:{names[0]}"
    )


def _reason(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
