"""Keeps models on one thread, libraries uncollected, and what a test registers to that test."""

import gc

import pytest
import torch

from reftune.tasks import TASKS

# Models this small gain nothing from more, and lose much where the cores are shared.
torch.set_num_threads(1)


@pytest.fixture
def tasks_as_before():
    """Forget the tasks that a test registers."""
    before = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(before)


@pytest.fixture(scope="module", autouse=True)
def what_is_there_uncollected():
    """Keep what the tests of a file find there out of garbage collection.

    ``Trainer.train`` collects at its end, which otherwise looks through all libraries each time: a
    quarter of the time of tests that train.
    """
    gc.collect()
    gc.freeze()
