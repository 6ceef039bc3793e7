"""Training steps: their losses, seconds, peak memory, FLOPs and bytes."""

from collections.abc import Callable

import torch

from benchmarks.methods.method import Method
from benchmarks.worker.counting import count
from benchmarks.worker.memory import peak
from benchmarks.worker.session import Session
from benchmarks.worker.stopwatch import seconds

Rows = dict[str, int]


def build(session: Session, path: str, edits: dict, options: dict, adopt: str | None) -> dict:
    """Build a method on a fresh frozen model, ready to train.

    Returns:
        `seconds` it took, without loading the model, and how many `parameters` it trains.
    """
    session.release()
    kind, base = session.method_class(path), session.fresh_base()
    made: list[Method] = []
    took = seconds(session.device, lambda: made.append(kind(base, edits, **options)))
    session.method = made[0]
    if adopt is not None:
        session.adopt(adopt)
    method, session.optimizer = session.method, None
    trained = session.parameters() if method.trains else []
    if method.trains:
        session.optimizer = torch.optim.AdamW(trained, lr=1e-4)
    method.train()
    return {"seconds": took, "parameters": sum(parameter.numel() for parameter in trained)}


def loss(session: Session, rows: Rows, seed: int, frozen: bool) -> float:
    """Return the loss of a batch, by the method or by the frozen model alone."""
    batch, method = session.batch(rows, seed), session.method
    # With gradients, as in a step: without them nothing is reused.
    with torch.set_grad_enabled(method.trains and not frozen), method.training():
        return (session.base(**batch).loss if frozen else method.loss(batch)).item()


def step(session: Session, rows: Rows, seed: int) -> dict[str, float]:
    """Take one training step on the batch of a seed.

    Returns:
        `seconds`, and `peak`: the most bytes in use meanwhile, above the loaded model.
    """
    work, took = _step(session, rows, seed), []
    most = peak(session.device, lambda: took.append(seconds(session.device, work)))
    return {"seconds": took[0], "peak": most - session.loaded}


def step_counts(session: Session, rows: Rows, seed: int) -> dict[str, int]:
    """Return the FLOPs and bytes of one step."""
    return count(_step(session, rows, seed))


def _step(session: Session, rows: Rows, seed: int) -> Callable[[], None]:
    batch, method, optimizer = session.batch(rows, seed), session.method, session.optimizer

    def frozen() -> None:
        with torch.no_grad():
            method.loss(batch)

    def trained() -> None:
        with method.training():
            optimizer.zero_grad()
            method.loss(batch).backward()
            optimizer.step()

    return trained if method.trains else frozen
