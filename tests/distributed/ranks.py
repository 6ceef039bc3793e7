"""Runs a function in several processes that can talk to each other over gloo.

The processes are forked from a server that has imported everything once.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.multiprocessing as mp

multiprocessing.set_forkserver_preload([__name__, "reftune.training", "transformers.models.llama"])


def on_ranks(work: Callable[..., Any], *args: Any, ranks: int = 2) -> list[Any]:
    """Return what ``work(*args)`` returns in each of the processes, started as by a launcher.

    Raises:
        Exception: of the first that failed; the others are ended.
    """
    with TemporaryDirectory() as folder:
        mp.start_processes(
            _run,
            args=(ranks, free_port(), folder, work, args),
            nprocs=ranks,
            start_method="forkserver",
        )
        return [torch.load(Path(folder, str(n)), weights_only=False) for n in range(ranks)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _run(rank: int, ranks: int, port: int, folder: str, work: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= launched(rank, ranks, port)
    torch.save(work(*args), Path(folder, str(rank)))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launched(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the environment that a launcher gives to a process."""
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    words = {name: str(value) for name, value in named.items()}
    return {**words, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
