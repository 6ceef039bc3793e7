"""Answers its parent: a request is a line of JSON on stdin, an answer one on stdout.

    {"do": "step", "rows": {...}, "seed": 3}  ->  {"value": 1.23}  or  {"error": "ValueError: ..."}

What libraries print goes to stderr, which the parent keeps as a log.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.worker import edits, generating, orthonormal_rows, storage, training, tutorial
from benchmarks.worker.session import Session

COMMANDS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        Session.hello,
        Session.write,
        Session.open,
        edits.write_edits,
        training.build,
        training.loss,
        training.step,
        training.step_counts,
        generating.answer,
        generating.tokens,
        generating.tenants,
        generating.answer_mixed,
        storage.save_and_load,
        tutorial.train_tutorial,
        orthonormal_rows.orthonormal_prepare,
        orthonormal_rows.orthonormal_peak,
        orthonormal_rows.orthonormal_seconds,
    )
}
# These import what the peers' environments do not have.
LATE = {
    "tenants_together": "benchmarks.worker.tenants",
    "tenants_in_turn": "benchmarks.worker.tenants",
    "tenants_files": "benchmarks.worker.tenants",
}


def command(name: str) -> Callable[..., Any]:
    """Return the function that answers a request."""
    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    return COMMANDS[name]


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": command(request.pop("do"))(session, **request)}
        except Exception as error:  # whatever a peer raises is a result
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
