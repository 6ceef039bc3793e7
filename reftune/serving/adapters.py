"""Adapters as the engine needs them, read from their folders and kept in memory."""

import hashlib
import json
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from reftune.config import ReftConfig, ReftPeftType
from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.errors import AdapterError
from reftune.serving.lowering import Lowered, kind_of, lowered, packed, tensors_of
from reftune.sites import Site, find_sites
from reftune.tuner import resolve

PREFIX, MARK = "base_model.model.", ".reft_edits."
INPUT_CHILD = ".input_intervention"


@dataclass(frozen=True, eq=False)
class ServedAdapter:
    """An adapter, lowered.

    Attributes:
        digest: of its files; adapters with the same one are the same.
        where: which tokens it edits.
        kind: see `reftune.serving.lowering.kind_of`.
        edits: by site, one each, or two if first and last positions are untied.
        size: of its tensors, in bytes.
    """

    digest: str
    where: Where
    kind: str
    edits: dict[Site, tuple[Lowered, ...]]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        edits = (edit for of in self.edits.values() for edit in of)
        tensors = [tensor for edit in edits for tensor in tensors_of(edit).values()]
        object.__setattr__(self, "size", sum(t.numel() * t.element_size() for t in tensors))


@cache
def _one(value: Hashable) -> Any:
    """Return the first of all equal values, so that adapters share what they have in common."""
    return value


class AdapterCache:
    """Reads adapters, and keeps those that were used last. Safe to use from several threads.

    Args:
        model: the base model.
        limit: of all tensors together, in bytes.
    """

    def __init__(self, model: nn.Module, limit: int) -> None:
        self.model, self.limit = model, limit
        self.bytes = 0
        self._kept: OrderedDict[Path, tuple[tuple, ServedAdapter]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, folder: Path) -> ServedAdapter:
        """Return the adapter that a folder holds now.

        Raises:
            AdapterError: there is none, or it cannot be served; the message says why.
        """
        seen = _signature(folder)
        with self._lock:
            kept = self._kept.get(folder)
            if kept is not None and kept[0] == seen:
                self._kept.move_to_end(folder)
                return kept[1]
        adapter = read_adapter(folder, self.model)
        while _signature(folder) != seen:  # replaced while it was read: the two files may not match
            seen = _signature(folder)
            adapter = read_adapter(folder, self.model)
        with self._lock:
            self._drop(folder)
            self._kept[folder] = (seen, adapter)
            self.bytes += adapter.size
            while self.bytes > self.limit and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))
        return adapter

    def forget(self, folder: Path) -> None:
        """Keep nothing of a folder."""
        with self._lock:
            self._drop(folder)

    def _drop(self, folder: Path) -> None:
        if folder in self._kept:
            self.bytes -= self._kept.pop(folder)[1].size


def _signature(folder: Path) -> tuple:
    """Return what changes when the files of a folder are replaced."""
    try:
        found = [os.stat(folder / name) for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME)]
    except OSError as error:
        raise AdapterError(
            f'"{folder}" lacks {Path(error.filename).name}: expected the folder of an adapter, '
            f"with {CONFIG_NAME} and {SAFETENSORS_WEIGHTS_NAME}"
        ) from error
    return tuple((f.st_size, f.st_mtime_ns, f.st_ino) for f in found)


def read_adapter(folder: Path, model: nn.Module) -> ServedAdapter:
    """Read an adapter that `save_pretrained` wrote, and hold it against the model.

    Raises:
        AdapterError: it is not an adapter of this method, or it does not fit the model.
    """
    try:
        said = (folder / CONFIG_NAME).read_bytes()
        config = _config(json.loads(said))
        kind = kind_of(config)
        resolve(model, config)
        sites = find_sites(model, config)
        weights = (folder / SAFETENSORS_WEIGHTS_NAME).read_bytes()
        tensors = _by_site(safetensors.torch.load(weights))
        names = {(site.module, site.side) for site in sites}
        if tensors.keys() != names:
            raise ValueError(
                f"its file has edits of {sorted(tensors)}: expected those of {sorted(names)}"
            )
        edits = {
            _one(site): lowered(config, site, tensors[site.module, site.side]) for site in sites
        }
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise AdapterError(f'adapter "{folder.name}": {" ".join(str(error).split())}') from error
    where = Where(Positions.parse(config.positions), config.tied, config.decode)
    digest = hashlib.sha256(said + weights).hexdigest()
    return ServedAdapter(digest, _one(where), kind, packed(edits))


def _config(said: Any) -> ReftConfig:
    if not isinstance(said, dict) or said.get("peft_type") != ReftPeftType.REFTUNE.value:
        found = said.get("peft_type") if isinstance(said, dict) else said
        raise ValueError(f"peft_type {found!r:.60}: expected {ReftPeftType.REFTUNE.value!r}")
    return ReftConfig(**said)


def _by_site(tensors: dict[str, Tensor]) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Sort tensors by the module and side that they edit."""
    found: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        path, mark, parameter = name.removeprefix(PREFIX).partition(MARK)
        if not mark:
            raise ValueError(f"its file has {name!r}: expected edits alone")
        side = "input" if path.endswith(INPUT_CHILD) else "output"
        found[path.rpartition(".")[0], side][parameter] = tensor
    return dict(found)
