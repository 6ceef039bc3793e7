"""Where a model that is loaded is put."""

import torch


def pick_device() -> str:
    """Name the accelerator if there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
