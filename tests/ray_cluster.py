"""A Ray cluster of two machines in processes of this one, and workers that can be watched."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reftune.prompt_batches import PromptBatch


@contextmanager
def two_machines() -> Iterator[str]:
    """Yield the address of a cluster of two machines with a processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class Watched:
    """Answers at once, and notes who answered; may end its own process, or fail, at a batch.

    Attributes:
        notes: a folder.
        killed_at: the worker that first has the batch that starts there is killed.
        fails_at: the batch that starts there is an error.
    """

    notes: Path
    killed_at: int = -1
    fails_at: int = -1

    def __call__(self) -> Callable[[PromptBatch], list[str]]:
        return self.answer

    def answer(self, batch: PromptBatch) -> list[str]:
        (self.notes / f"{batch.start}-{os.getpid()}").touch()
        time.sleep(0.2)
        killed = self.notes / "killed"
        if batch.start == self.killed_at and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if batch.start == self.fails_at:
            raise ValueError("this batch is\nno good")
        return [f"{batch.start}: {ids}" for ids in batch.prompts]
