"""Keeps tiny models on one thread, and what is registered to the test that does so."""

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
