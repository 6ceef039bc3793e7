"""Seconds of a piece of work, on the device as well."""

import time
from collections.abc import Callable

import torch


def seconds(device: str, work: Callable[[], object]) -> float:
    """Run `work` and return how long it took, until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
