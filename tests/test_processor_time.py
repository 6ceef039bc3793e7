"""The processor's time of a training counts its interrupted parts."""

from itertools import count

import pytest

from reftune.experiments.processor_time import processor_time


def interrupted(file) -> None:
    with processor_time(file):
        raise KeyboardInterrupt


def test_what_was_spent_before_an_interruption_counts(tmp_path, monkeypatch):
    ticks = count(100, 7)  # between one look at the clock and the next
    monkeypatch.setattr("time.process_time", lambda: next(ticks))
    file = tmp_path / "seconds"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(file)
    with processor_time(file) as spent:
        pass
    assert spent() == 21
