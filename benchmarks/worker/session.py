"""The state of a worker: one frozen model, and one method on it."""

import ctypes
import gc
import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods.method import Method
from benchmarks.worker.base_model import load_base, make_batch, write_weights
from benchmarks.worker.memory import allocated


@dataclass
class Session:
    """What is loaded. `open` comes first, then any number of `build`."""

    device: str = "cpu"
    where: dict[str, Any] = field(default_factory=dict)
    base: Any = None
    method: Any = None
    optimizer: Any = None
    loaded: int = 0
    names: list[str] = field(default_factory=list)

    def hello(self, device: str, threads: int) -> None:
        """Set the device and the threads."""
        self.device = device
        torch.set_num_threads(threads)

    def write(self, arguments: dict[str, Any], folder: str, name: str, seed: int) -> None:
        """Write the weights of a shape for all workers."""
        write_weights(arguments, folder, name, seed)

    def open(self, arguments: dict[str, Any], folder: str, name: str, seed: int, path: str) -> int:
        """Load the frozen model and the code of a method; return the bytes in use with them."""
        self.release()
        self.method_class(path)
        self.where = {"arguments": arguments, "folder": folder, "name": name, "seed": seed}
        self.fresh_base()
        for parameter in self.base.parameters():
            parameter.sum()  # so that what is mapped into memory is there
        with torch.no_grad():
            self.base(**self.batch({"rows": 1, "prompt": 2, "completion": 2}, 0))
        self.loaded = allocated(self.device)
        return self.loaded

    def fresh_base(self) -> Any:
        """Load the frozen model anew, and return it."""
        self.base = load_base(**self.where, device=self.device)
        return self.base

    def release(self) -> None:
        """Give back what the last method took."""
        self.method = self.optimizer = self.base = None
        torch.compiler.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        elif sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)

    def method_class(self, path: str) -> type[Method]:
        """Return the class at `module:class`."""
        module, _, name = path.partition(":")
        return getattr(importlib.import_module(f"benchmarks.methods.{module}"), name)

    def batch(self, rows: dict[str, int], seed: int) -> dict[str, Tensor]:
        """Return the batch of a seed."""
        return make_batch(
            self.where["arguments"]["vocab_size"], **rows, seed=seed, device=self.device
        )

    def adopt(self, path: str) -> None:
        """Give the method the matrices of a file."""
        self.method.adopt_file(Path(path))

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return self.method.trained()
