"""Where what never changes is kept: in memory up to a budget, then in files."""

import logging
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from reftune.reuse.switch import Room

LOG = logging.getLogger(__name__)

Parts = Mapping[str, Tensor]


class Store:
    """Keeps tensors by key until its room is used up; nothing is dropped to make room.

    Training visits examples in turn: a store that dropped the oldest would never find one again.

    Args:
        room: how much; see `reftune.reuse.reuse_within`.
    """

    def __init__(self, room: Room | None = None):
        self.room = room or Room()
        self._memory, self._disk = self.room.memory, self.room.disk
        self._kept: dict[bytes, Parts] = {}
        self._files: dict[bytes, tuple[Path, torch.device]] = {}
        self._own: Path | None = None

    def __len__(self) -> int:
        return len(self._kept) + len(self._files)

    def get(self, key: bytes) -> Parts | None:
        """Return what was put there, or `None`."""
        if key not in self._files:
            return self._kept.get(key)
        file, device = self._files[key]
        with safe_open(file, framework="pt", device=str(device)) as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}

    def put(self, key: bytes, parts: Parts) -> bool:
        """Keep tensors, if there is room; say whether there was."""
        size = sum(part.nbytes for part in parts.values())
        if self._memory is None:
            self._memory = _free_memory(next(iter(parts.values())).device) // 4
        if size <= self._memory:
            # Without the batch that they may be a view of.
            self._kept[key] = {name: part.clone() for name, part in parts.items()}
            self._memory -= size
            return True
        if size <= self._disk:
            return self._write(key, parts, size)
        return False

    def _write(self, key: bytes, parts: Parts, size: int) -> bool:
        try:
            file = self._opened() / f"{len(self._files)}.safetensors"
            save_file({name: part.contiguous() for name, part in parts.items()}, file)
        except OSError as error:
            LOG.warning("nothing more is kept in %s: %s", self._own or self.room.folder, error)
            self._disk = 0
            return False
        self._files[key] = file, next(iter(parts.values())).device
        self._disk -= size
        return True

    def clear(self) -> None:
        """Forget everything."""
        for file, _ in self._files.values():
            file.unlink()
        self._kept, self._files = {}, {}
        self._memory, self._disk = self.room.memory, self.room.disk

    def _opened(self) -> Path:
        if self._own is None:
            made = tempfile.TemporaryDirectory(prefix="reftune-reuse-", dir=self.room.folder)
            weakref.finalize(self, made.cleanup)
            self._own = Path(made.name)
        return self._own


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
