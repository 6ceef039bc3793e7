"""What the machine is, without its name."""

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Return the CPU's model, the cores that may be used, memory and system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _from("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": cores,
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _memory() -> str:
    """Return the memory in whole GiB; the kernel's own share differs from start to start."""
    kilobytes = _from("/proc/meminfo", "MemTotal").partition(" ")[0]
    return f"{int(kilobytes) / 2**20:.0f} GiB" if kilobytes else ""


def _from(path: str, name: str) -> str:
    file = Path(path)
    if file.exists():
        for line in file.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""
