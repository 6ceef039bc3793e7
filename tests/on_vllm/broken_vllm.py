"""Breaks what the plug-in relies on, in a process of its own, and prints what the probe says.

python -m tests.on_vllm.broken_vllm MODEL parts|start
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from vllm import LLM

from reftune.vllm import editing, probe
from reftune.vllm.editing import StepEditing
from reftune.vllm.settings import engine_arguments
from reftune.vllm.tracking import TrackedRequests
from tests.on_vllm.vllm_engines import SMALL


def start(model: str) -> LLM:
    return LLM(model, **SMALL, **engine_arguments())


@contextlib.contextmanager
def no_hooks(worker: Any) -> Iterator[None]:
    """As where a compiler leaves them out."""
    modules = list(worker.model_runner.get_model().modules())
    kept = [(module, dict(module._forward_hooks)) for module in modules]
    for module in modules:
        module._forward_hooks.clear()
    yield
    for module, hooks in kept:
        module._forward_hooks.update(hooks)


def on_copies(old: Callable) -> Callable:
    def edit(self, path, hidden, residual):
        old(self, path, hidden.clone(), None if residual is None else residual.clone())

    return edit


def at_other_tokens(old: Callable) -> Callable:
    def runs(self, order):
        return [(answer, past + 1, length) for answer, past, length in old(self, order)]

    return runs


def without_the_residual(old: Callable) -> Callable:
    def edit(bank, segments, hidden, residual):
        old(bank, segments, hidden, None)

    return edit


def of_another_batch(old: Callable) -> Callable:
    def runs(self, order):
        return old(self, list(reversed(order)))

    return runs


def nothing(old: Callable) -> Callable:
    return lambda *args: None


def patched(owner: Any, name: str, breaking: Callable) -> Callable:
    return lambda worker: mock.patch.object(owner, name, breaking(getattr(owner, name)))


BROKEN = {
    "no hooks": no_hooks,
    "hooks that do nothing": patched(editing, "_edit_segments", nothing),
    "hooks on copies": patched(StepEditing, "edit", on_copies),
    "half of the residual stream": patched(editing, "_edit_segments", without_the_residual),
    "other tokens": patched(TrackedRequests, "runs", at_other_tokens),
    "another order of the batch": patched(TrackedRequests, "runs", of_another_batch),
    "no plan": patched(StepEditing, "plan", nothing),
}


def said(worker: Any) -> str:
    """Probe a worker that has no requests; return why it was refused, or that it was not."""
    try:
        probe.probe(worker)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "passed"


def recover(worker: Any) -> None:
    """Forget the step that was broken off, and its requests."""
    worker.reft_editing.recording = None
    worker.model_runner.execute_model_state = None
    probe._finish(worker, [SimpleNamespace(req_id=f"{probe.NAME}-{n}") for n in range(9)])


def main(model: str, which: str) -> None:
    if which == "start":
        with mock.patch.object(editing, "_hook", return_value=lambda *args: None):
            start(model)
        return
    llm = start(model)
    worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    found = {"as it is": said(worker)}
    for name, breaking in BROKEN.items():
        with breaking(worker):
            found[name] = said(worker)
        recover(worker)
    found["as it was"] = said(worker)
    sys.stdout.write(f"FOUND {json.dumps(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
