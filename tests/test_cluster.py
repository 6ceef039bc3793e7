"""What is known of a cluster without Ray: order, room, addresses."""

import importlib.util
import random
import socket
import threading
from contextlib import contextmanager

import pytest

from reftune.cli import main
from reftune.cluster import Worker, check_address, in_order, packed, resources, unpacked
from reftune.prompt_batches import PromptBatch, in_batches
from tests.test_cli import fails

STARTS = list(range(0, 50, 4))


@pytest.mark.parametrize("seed", range(5))
def test_answers_come_in_order_whatever_the_order_in_which_they_are_found(seed):
    found = [(start, [f"{start}"]) for start in STARTS]
    random.Random(seed).shuffle(found)
    assert list(in_order(iter(found), STARTS)) == [[f"{start}"] for start in STARTS]


def test_answers_are_given_as_soon_as_they_are_due():
    seen = []

    def found():
        for start in (4, 0, 8):
            seen.append(start)
            yield start, [str(start)]

    answers = in_order(found(), [0, 4, 8])
    assert next(answers) == ["0"]
    assert seen == [4, 0]
    assert list(answers) == [["4"], ["8"]]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([0, 4, 4], "row 5 came twice"),
        ([4, 4], "row 5 came twice"),
        ([0, 12], "row 13 came twice, or was not asked for"),
        ([0, 8], "1 batches did not come, the first of row 5"),
        ([], "3 batches did not come, the first of row 1"),
    ],
)
def test_a_batch_that_is_missing_or_doubled_is_an_error(found, says):
    with pytest.raises(RuntimeError, match=says):
        list(in_order(((start, ["a"]) for start in found), [0, 4, 8]))


def test_a_worker_loads_once_and_gets_batches_as_they_were():
    asked, loaded = [], []

    def load():
        loaded.append(1)
        return lambda batch: asked.append(batch) or [str(ids) for ids in batch.prompts]

    worker = Worker(load)
    batches = [*in_batches([[1], [2, 3], []], 2), PromptBatch(7, [[4]], ["é\u2028"])]
    rows = [worker(packed(batch)) for batch in batches]
    assert asked == batches
    assert loaded == [1]
    answers = [(b.start, [str(ids) for ids in b.prompts]) for b in batches]
    assert [unpacked(row) for row in rows] == answers


@pytest.mark.parametrize("at_once", [True, False])
def test_the_error_of_a_worker_is_raised_where_answers_are_wanted(at_once):
    def fail(*batch):
        raise ValueError("no\ngood")

    worker = Worker(fail if at_once else lambda: fail)
    with pytest.raises(ValueError, match="a worker of the cluster failed: no good"):
        unpacked(worker(packed(PromptBatch(0, [[1]]))))


def node(alive: bool = True, **of: float) -> dict:
    return {"Alive": alive, "Resources": of}


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([node(CPU=8), node(CPU=4)], None, (2, {"num_cpus": 4.0})),
        ([node(CPU=8), node(CPU=4)], 4, (4, {"num_cpus": 2.0})),
        ([node(CPU=8), node(CPU=4)], 3, (3, {"num_cpus": 2.0})),
        ([node(CPU=8), node(CPU=4, alive=False)], None, (1, {"num_cpus": 8.0})),
        ([node(memory=1e9), node(CPU=4)], None, (1, {"num_cpus": 4.0})),
        ([node(CPU=8, GPU=2), node(CPU=4, GPU=1)], None, (3, {"num_gpus": 1.0})),
        ([node(CPU=8, GPU=2)], 4, (4, {"num_gpus": 0.5})),
        ([node(CPU=8, GPU=2)], 3, (3, {"num_gpus": 0.5})),  # a third of two is on no GPU
        ([node(CPU=8, GPU=1), node(CPU=8, GPU=1)], 5, (5, {"num_gpus": 1 / 3})),
        ([node(CPU=8, GPU=2)], 1, (1, {"num_gpus": 1.0})),
    ],
)
def test_every_worker_has_a_gpu_or_its_part_of_a_machine(nodes, workers, expected):
    assert resources(nodes, workers) == expected


def test_a_cluster_without_room_is_refused():
    with pytest.raises(ValueError, match="3 workers on 1 machines, of 2 processors"):
        resources([node(CPU=2)], 3)
    with pytest.raises(ValueError, match="no processors"):
        resources([node(memory=1e9)])


@contextmanager
def answering(says: bytes):
    """Yield the address of somebody who says this to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            there, _ = server.accept()
            there.recv(1000)
            there.sendall(says)
            there.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_addresses_at_which_nobody_answers_are_refused():
    with answering(bytes((0, 0, 6, 4, 0, 0, 0, 0, 0)) + bytes(6)) as address:
        check_address(address)
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:\d+.*another protocol"):
            check_address(address)
    with pytest.raises(ConnectionError, match="refused"):
        check_address(address)  # it is closed by now
    for wrong in ("", "nowhere", "host:port", "host:99999", ":6379", "http://[", "ray://host"):
        with pytest.raises(ConnectionError, match=r"expected the address of a Ray cluster"):
            check_address(wrong)
    check_address("auto")
    check_address("local")


COMMAND = ["generate", "--model", "tiny-chat", "--prompt", "fox"]


def test_the_tool_says_in_one_line_what_is_wrong(capsys, monkeypatch):
    found = importlib.util.find_spec

    def without(name: str, *more: str | None):
        return None if name == "ray" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    fails(capsys, [*COMMAND, "--ray", "auto"], "pip install 'reftune[ray]'")
    fails(capsys, [*COMMAND, "--ray-workers", "2"], "ray workers 2", "--ray")
    fails(capsys, [*COMMAND, "--ray", "auto", "--ray-workers", "0"], "ray workers 0")
    monkeypatch.setattr("reftune.cluster.need_ray", lambda: None)
    fails(capsys, [*COMMAND, "--ray", "nowhere"], "no Ray cluster at 'nowhere'", "host:port")
    assert main([*COMMAND, "--max-new-tokens", "1"]) == 0
