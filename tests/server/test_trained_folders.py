"""Folders of trained adapters go when nobody can need them any more."""

import pytest

from reftune.server.database.store import Store
from reftune.server.trained_folders import ADAPTERS, sweep_adapters
from tests.server.fake_engine import FakeEngine, serving
from tests.server.filled import add_job
from tests.tiny_text import byte_level


def add_trained(store: Store, state, name: str):
    """Add a job, and the adapter that it has trained."""
    folder = state / ADAPTERS / add_job(store, "local").id
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text("x")
    store.add_adapter("local", name, str(folder), "tiny")
    return folder


@pytest.mark.parametrize("trains", [True, False])
def test_a_deleted_adapter_is_there_for_an_engine_that_reads_it_late(tmp_path, trains) -> None:
    engine = FakeEngine(byte_level(chat=True), lambda prompt, sampling: [70])
    with serving(engine, tmp_path, trains=trains) as served:
        folder = add_trained(served.store, tmp_path, "ft:tiny:a")
        other = add_trained(served.store, tmp_path, "ft:tiny:b")
        assert served.client().models.delete("ft:tiny:a").deleted
        assert engine.forgotten == [folder]
        assert folder.exists() != trains
        assert served.get("/v1/models/ft:tiny:a").status_code == 404
        sweep_adapters(served.store, tmp_path / ADAPTERS)
        assert (folder.exists(), other.exists()) == (False, True)


def test_folders_that_no_job_made_are_left_alone(tmp_path) -> None:
    store = Store(f"sqlite:///{tmp_path}/server.db")
    sweep_adapters(store, tmp_path / "nowhere")
    strange = tmp_path / ADAPTERS / "mine"
    foreign = tmp_path / ADAPTERS / "ftjob-0123456789abcdef01234567"
    for folder in (strange, foreign):
        folder.mkdir(parents=True)
    sweep_adapters(store, tmp_path / ADAPTERS)
    assert strange.exists()
    assert foreign.exists()
    store.close()
