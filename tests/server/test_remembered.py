"""What is remembered of the database is never older than the last change that was over."""

import threading

import pytest

from reftune.server.database.remembered import Remembered
from reftune.server.errors import NotFound
from tests.server.filled import add_job


class Source:
    """Something to be read, which counts how often it was."""

    def __init__(self) -> None:
        self.value, self.reads = 0, 0

    def read(self) -> int:
        self.reads += 1
        return self.value


def test_a_value_is_read_once_until_it_changes() -> None:
    remembered, source = Remembered(2), Source()
    assert [remembered.get("a", source.read) for _ in range(3)] == [0, 0, 0]
    assert source.reads == 1

    def change_and_fail() -> None:
        with remembered.changing():
            source.value = 1
            raise ZeroDivisionError  # the change may have been made all the same

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert [remembered.get("a", source.read) for _ in range(3)] == [1, 1, 1]
    assert source.reads == 2


def test_nothing_is_remembered_while_a_change_goes_on() -> None:
    remembered, source = Remembered(2), Source()
    with remembered.changing():
        with remembered.changing():
            pass
        assert [remembered.get("a", source.read) for _ in range(2)] == [0, 0]
        source.value = 1
        assert remembered.get("a", source.read) == 1
    assert source.reads == 3


def test_what_was_begun_to_be_read_before_a_change_is_not_kept() -> None:
    remembered, source = Remembered(2), Source()

    def slow_read() -> int:
        value = source.read()
        with remembered.changing():
            source.value = 1
        return value

    assert remembered.get("a", slow_read) == 0
    assert remembered.get("a", source.read) == 1


def test_the_least_recently_used_goes_first() -> None:
    remembered, source = Remembered(2), Source()
    for key in "abac":
        remembered.get(key, source.read)
    assert source.reads == 3
    for key in "ac":
        remembered.get(key, source.read)
    assert source.reads == 3
    remembered.get("b", source.read)
    assert source.reads == 4


def test_adapters_are_not_looked_up_twice(store, monkeypatch) -> None:
    store.add_adapter("ada", "mine", "/a", "tiny")
    found = store.find_adapter("ada", "mine")
    with pytest.raises(NotFound):
        store.find_adapter("eve", "mine")
    with monkeypatch.context() as without:
        without.delattr(type(store._database), "reading")
        assert store.find_adapter("ada", "mine") == found
        with pytest.raises(NotFound):
            store.find_adapter("eve", "mine")
    store.add_adapter("eve", "mine", "/e", "tiny")
    assert store.find_adapter("eve", "mine").folder == "/e"
    store.delete_adapter("ada", "mine")
    with pytest.raises(NotFound):
        store.find_adapter("ada", "mine")


def test_a_trained_adapter_is_known_at_once(store) -> None:
    job = add_job(store, "ada")
    with pytest.raises(NotFound):
        store.find_adapter("ada", job.trained_as)
    store.next_job()
    store.finish_job(job.id, adapter="/a", trained_tokens=1, result={})
    assert store.find_adapter("ada", job.trained_as).folder == "/a"


def test_replacing_while_others_ask(store) -> None:
    store.add_adapter("ada", "mine", "/0", "tiny")
    done, wrong = threading.Event(), []

    def ask() -> None:
        last = 0
        while not done.is_set():
            seen = int(store.find_adapter("ada", "mine").folder[1:])
            if seen < last:
                wrong.append((last, seen))
            last = seen

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for number in range(1, 15):
            store.add_adapter("ada", "mine", f"/{number}", "tiny")
            assert store.find_adapter("ada", "mine").folder == f"/{number}"
    finally:
        done.set()
        for thread in asking:
            thread.join()
    assert wrong == []
