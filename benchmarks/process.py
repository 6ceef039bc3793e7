"""A worker as its parent sees it: a process that is asked, one request at a time."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.pythons import ROOT


class Refused(Exception):
    """A worker could not do what it was asked; the message is its error."""


def variables(threads: int) -> dict[str, str]:
    """Return the environment variables of what is measured."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # A worker that waits for its turn sleeps.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT),
    }


class Worker:
    """A process in an environment of its own.

    Args:
        python: the interpreter of the environment.
        log: where its stderr goes.
        threads: of torch.
    """

    def __init__(self, python: str, log: Path, threads: int):
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [python, "-m", "benchmarks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=variables(threads),
            )

    def ask(self, do: str, **given: Any) -> Any:
        """Return the answer to a request.

        Raises:
            Refused: the worker reports an error, or ended.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **given}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Refused(f"the worker ended with {code} at {do!r}: {' '.join(last)}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(" ".join(answer["error"].split())[:300])
        return answer["value"]

    def close(self) -> None:
        """End the process, after what it does now."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
