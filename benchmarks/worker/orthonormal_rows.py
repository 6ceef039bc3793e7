"""Orthonormal rows alone: torch's parametrisation, and reftune's chart, forward and backward."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.worker.memory import allocated, peak
from benchmarks.worker.session import Session
from benchmarks.worker.stopwatch import seconds


def orthonormal_prepare(session: Session, chart: str, stack: int, rank: int, width: int) -> int:
    """Make the free matrices of a chart; return the bytes of the parameters.

    `"torch"`: as pyreft and AdapterHub have it, one module per matrix. `"reftune"`: one stack.
    """
    session.release()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(stack, rank, width, generator=generator)
    _work(chart, rows[:1, :, : rank * 2])()  # starts the threads, and what is loaded late
    session.loaded = allocated(session.device)
    work = _work(chart, rows.to(session.device))
    session.method = work
    return rows.numel() * rows.element_size()


def orthonormal_peak(session: Session, seed: int) -> int:
    """Return the most bytes in use above what was before the free matrices were made."""
    return peak(session.device, session.method) - session.loaded


def orthonormal_seconds(session: Session, seed: int) -> float:
    """Return the seconds of one forward and backward."""
    return seconds(session.device, session.method)


def _work(chart: str, rows: Tensor) -> Callable[[], None]:
    modules, width = [], rows.shape[-1]
    if chart == "torch":
        for row in rows:
            linear = nn.Linear(width, len(row), bias=False, device=rows.device)
            modules.append(nn.utils.parametrizations.orthogonal(linear))

        def made() -> list[Tensor]:
            return [module.weight for module in modules]

    else:
        from reftune.orthonormal import orthonormal

        free = nn.Parameter(rows.clone())

        def made() -> list[Tensor]:
            return [orthonormal(free)]

    def work() -> None:
        for R in made():
            R.backward(torch.ones_like(R))

    return work
