"""Seconds of generation, for one adapter and for a batch of many."""

import torch

from benchmarks.worker.session import Session
from benchmarks.worker.stopwatch import seconds


def answer(session: Session, rows: int, prompt: int, new: int, seed: int) -> float:
    """Return the seconds of generating so many tokens, greedily, after random prompts.

    Raises:
        RuntimeError: other than so many tokens came out.
    """
    given = {"rows": rows, "prompt": prompt, "completion": 0}
    ids, made = session.batch(given, seed)["input_ids"], []
    session.method.evaluate()
    with torch.no_grad():
        took = seconds(session.device, lambda: made.append(session.method.generate(ids, new)))
    if made[0].shape[1] != prompt + new:
        raise RuntimeError(f"{made[0].shape[1] - prompt} tokens came out: expected {new}")
    return took


def tokens(session: Session, rows: int, prompt: int, new: int, seed: int) -> list[list[int]]:
    """Return the ids that come out, to compare methods by."""
    given = {"rows": rows, "prompt": prompt, "completion": 0}
    ids = session.batch(given, seed)["input_ids"]
    session.method.evaluate()
    with torch.no_grad():
        return session.method.generate(ids, new)[:, prompt:].tolist()


def tenants(session: Session, count: int) -> int:
    """Attach so many adapters more; return how many there are."""
    session.names = session.method.tenants(count)
    return len(session.names)


def answer_mixed(session: Session, rows: int, prompt: int, new: int, seed: int) -> float:
    """Return the seconds of generating for rows that have an adapter each."""
    given = {"rows": rows, "prompt": prompt, "completion": 0}
    ids = session.batch(given, seed)["input_ids"]
    session.method.evaluate()
    with torch.no_grad():
        return seconds(session.device, lambda: session.method.generate(ids, new, session.names))
