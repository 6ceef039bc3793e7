"""How much memory a piece of work takes at its peak, above what is there before it."""

import gc
import resource
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Return the bytes of this process that are in memory now, or at their peak without /proc."""
    return _status("VmRSS")


def allocated(device: str) -> int:
    """Return the bytes in use: of the GPU, or of the process."""
    gc.collect()
    return torch.cuda.memory_allocated() if device == "cuda" else resident()


def peak(device: str, work: Callable[[], object]) -> int:
    """Run `work` and return the most bytes that were in use meanwhile."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    if CLEAR.exists():
        CLEAR.write_text("5")  # Linux: the peak begins anew at what is resident now
    work()
    return _status("VmHWM")


def _status(name: str) -> int:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
