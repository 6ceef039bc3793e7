"""The chart of the matrices with orthonormal rows, computed in pieces."""

import pytest
import torch
from torch import Tensor
from torch.profiler import profile

from reftune import orthonormal as module
from reftune.orthonormal import orthonormal


def made(free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows, and a gradient of what they stand for."""
    free = free.clone().requires_grad_()
    rows = orthonormal(free)
    rows.backward(torch.linspace(-1, 1, rows.numel()).view(rows.shape).to(rows.dtype))
    assert free.grad is not None
    return rows.detach(), free.grad


def reference(free: Tensor) -> tuple[Tensor, Tensor]:
    """The same by a QR decomposition in double precision, and torch's own derivative of it."""
    wide = free.double().requires_grad_()
    columns, upper = torch.linalg.qr(wide.mT)
    rows = (columns * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]).mT
    rows.backward(torch.linspace(-1, 1, rows.numel()).view(rows.shape).double())
    assert wide.grad is not None
    return rows.detach().to(free.dtype), wide.grad.to(free.dtype)


@pytest.mark.parametrize("stack", [(), (1,), (5,), (2, 3), (0,), (3, 0)], ids=str)
@pytest.mark.parametrize("piece", [1, 100, 2**18])
def test_it_is_the_decomposition_whatever_the_pieces(stack, piece, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", piece)
    torch.manual_seed(0)
    free = torch.randn(*stack, 3, 16)
    torch.testing.assert_close(made(free), reference(free), atol=1e-6, rtol=1e-5)


def test_rows_that_lie_otherwise_in_memory_compile():
    torch.manual_seed(0)
    columns = torch.randn(2, 16, 3)
    torch._dynamo.reset()
    compiled = torch.compile(lambda free: orthonormal(free.mT).view(2, 48), backend="aot_eager")
    torch.testing.assert_close(compiled(columns), reference(columns.mT)[0].view(2, 48))


def test_the_peak_is_four_times_the_parameters(monkeypatch):
    """Of the free matrices, their rows and both gradients; the pieces are gone before these."""
    monkeypatch.setattr(module, "_PIECE", 2**13)
    free = torch.randn(64, 4, 512, requires_grad=True)
    made(free.detach()[:1])  # loads what is loaded late
    with profile(profile_memory=True) as watched:
        rows = orthonormal(free)
        rows.backward(torch.ones_like(rows))
    assert watched.profiler is not None
    events = watched.profiler.kineto_results.events()
    memory = [event for event in events if event.name() == "[memory]"]
    held = torch.tensor([event.nbytes() for event in sorted(memory, key=lambda e: e.start_ns())])
    assert 3.9 < 1 + held.cumsum(0).max().item() / free.nbytes < 4.1
