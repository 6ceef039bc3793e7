"""The matrices R, W and b that all methods with them start from."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.worker.session import Session


def write_edits(session: Session, path: str, edits: dict, width: int, seed: int) -> None:
    """Write `<layer>/<edit>/R`, `W` and `b`: orthonormal rows, and W and b that change much."""
    generator = torch.Generator().manual_seed(seed)
    rank, tensors = edits["rank"], {}
    for layer in edits["layers"]:
        for edit in range(1 if edits["tied"] else 2):
            free = torch.randn(width, rank, generator=generator, dtype=torch.float64)
            source = torch.randn(rank, width, generator=generator) * width**-0.5
            name = f"{layer}/{edit}"
            tensors[f"{name}/R"] = torch.linalg.qr(free)[0].mT.float().contiguous()
            tensors[f"{name}/W"] = source
            tensors[f"{name}/b"] = torch.randn(rank, generator=generator)
    save_file(tensors, Path(path))
