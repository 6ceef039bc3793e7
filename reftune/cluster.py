"""Answers from a Ray cluster: every worker has the base model, and the adapters it is asked for.

Ray Data runs the workers, and starts those that die again. A batch is answered as a whole, and by
every worker in the same way, so that one that was lost is asked for once more.
"""

# pyright: reportMissingImports=false
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from reftune.prompt_batches import PromptBatch

Answer = Callable[[PromptBatch], list[str]]
EXPECTED = (
    'expected the address of a Ray cluster: "host:port", "auto", or "local" for a new one here'
)
PROBE_SECONDS = 10
SETTINGS = 4  # a kind of frame, RFC 9113 §6.5
# More pieces than this are more than the scheduler likes; each is at least a batch.
MOST_PIECES = 4096


def need_ray() -> None:
    """Make sure that the extra is installed.

    Raises:
        ImportError: it is not; says how to install it.
    """
    if importlib.util.find_spec("ray") is None:
        raise ImportError("a cluster needs Ray: pip install 'reftune[ray]'")


class Worker:
    """An actor: loads a model once, and answers what it is sent.

    An error is part of its answer. Ray would try a load that fails again and again, and keeps of
    other errors little more than where they were raised.

    Args:
        load: returns what answers a batch; it must be the same on every machine.
    """

    def __init__(self, load: Callable[[], Answer]) -> None:
        self._answer, self._failed = _nothing, ""
        try:
            self._answer = load()
        except Exception as error:
            self._failed = _said(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch as `packed` packs it."""
        batch = PromptBatch(**json.loads(row["batch"]))
        answers, failed = [], self._failed
        if not failed:
            try:
                answers = self._answer(batch)
            except Exception as error:
                failed = _said(error)
        return {"start": batch.start, "answers": json.dumps(answers), "failed": failed}


def packed(batch: PromptBatch) -> dict[str, str]:
    """Return a batch as a row of a table: as text, since tables have no lists of many lengths."""
    return {"batch": json.dumps(asdict(batch))}


def cluster_answers(
    load: Callable[[], Answer],
    batches: Sequence[PromptBatch],
    address: str,
    workers: int | None = None,
) -> Iterator[list[str]]:
    """Yield the answers to batches in their order.

    Args:
        load: see `Worker`; it is sent to the workers, and the paths in it must exist there.
        batches: to be answered.
        address: of the cluster.
        workers: how many; one per GPU if `None`, or per machine if there are no GPUs.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at this address.
        ValueError: the workers cannot load the model or answer, or there is no room for them.
        RuntimeError: an answer is missing, or came twice, or Ray fails.
    """
    need_ray()
    check_address(address)
    with _connected(address):
        from ray.exceptions import RayError

        try:
            # What still runs is stopped before Ray is left.
            with closing(_answered(load, batches, workers)) as found:
                yield from in_order(map(unpacked, found), [batch.start for batch in batches])
        except RayError as error:
            raise RuntimeError(f"the cluster failed: {_said(error)}") from error


def _answered(
    load: Callable[[], Answer], batches: Sequence[PromptBatch], workers: int | None
) -> Any:
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing it set another
    count, each = resources(ray.nodes(), workers)
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    pieces = min(len(batches), MOST_PIECES)
    rows = ray.data.from_items([packed(batch) for batch in batches], override_num_blocks=pieces)
    pool = ActorPoolStrategy(size=count)
    answered = rows.map(Worker, fn_constructor_args=(load,), compute=pool, **each)
    return iter(answered.iter_rows())


def unpacked(row: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the start of a batch, and its answers, as a worker gave them.

    Raises:
        ValueError: it gave an error.
    """
    if row["failed"]:
        raise ValueError(f"a worker of the cluster failed: {row['failed']}")
    return row["start"], json.loads(row["answers"])


def in_order(found: Iterable[tuple[int, list[str]]], starts: Sequence[int]) -> Iterator[list[str]]:
    """Yield answers in the order of their batches, each once.

    Args:
        found: the start of a batch, and its answers, in any order.
        starts: of all batches, in their order.

    Raises:
        RuntimeError: a batch came twice, or is not there at the end, or nobody asked for it.
    """
    early: dict[int, list[str]] = {}
    due = iter(starts)
    wanted, open_ = next(due, None), set(starts)
    for start, answers in found:
        if start not in open_:
            raise RuntimeError(f"the batch of row {start + 1} came twice, or was not asked for")
        open_.remove(start)
        early[start] = answers
        while wanted in early:
            yield early.pop(wanted)
            wanted = next(due, None)
    if open_:
        raise RuntimeError(f"{len(open_)} batches did not come, the first of row {min(open_) + 1}")


def resources(
    nodes: Iterable[Mapping[str, Any]], workers: int | None = None
) -> tuple[int, dict[str, float]]:
    """Return how many workers there are, and what each of them takes.

    Args:
        nodes: as `ray.nodes()` lists them.
        workers: how many, if it is said.

    Raises:
        ValueError: there is no room for a worker.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(of.get("GPU", 0) for of in alive))
    if gpus:
        count = workers or gpus
        # Several on a GPU if that is what was asked for.
        on_one = max(1, -(-count // gpus))  # workers on the GPU that has most
        return count, {"num_gpus": 1 / on_one}
    cores = [int(of["CPU"]) for of in alive if of.get("CPU", 0) >= 1]
    if not cores:
        raise ValueError("the Ray cluster has no processors: expected a machine with one at least")
    count = workers or len(cores)
    on_one = -(-count // len(cores))  # workers on the machine that has most
    most = min(cores) // on_one
    if most < 1:
        raise ValueError(
            f"{count} workers on {len(cores)} machines, of {min(cores)} processors or more: "
            "expected fewer workers than processors"
        )
    return count, {"num_cpus": float(most)}


def check_address(address: str) -> None:
    """Make sure that somebody answers at an address who may be a Ray cluster.

    Ray itself would wait for many minutes.

    Raises:
        ConnectionError: nobody does.
    """
    if address in ("auto", "local"):
        return
    try:
        where = urlsplit(address if "://" in address else f"//{address}")
        host, port = where.hostname, where.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ConnectionError(f"no Ray cluster at {address!r}: {EXPECTED}")
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as there:
            # HTTP/2, in which gRPC is spoken, begins so: whoever knows it sends its settings.
            hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            there.sendall(hello + bytes((0, 0, 0, SETTINGS, *[0] * 5)))
            if there.recv(4)[3:] != bytes((SETTINGS,)):
                raise OSError("what answers there speaks another protocol")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionError(f"no Ray cluster at {address!r} ({reason}): {EXPECTED}") from error


@contextmanager
def _connected(address: str) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process; errors are raised
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # nothing begins anew what was left
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ConnectionError(f"no Ray cluster at {address!r} ({reason}): {EXPECTED}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _nothing(batch: PromptBatch) -> list[str]:
    return []


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
