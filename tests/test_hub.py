"""What goes wrong on the way to the hub is told as one error; nothing too large is fetched."""

from types import SimpleNamespace

import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from reftune.hub import fetch_from_hub

FILES = ("adapter_config.json", "adapter_model.safetensors")


class TransportError(Exception):
    """As those of the hub's client are: of another library, and no OSError."""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> SimpleNamespace:
    """A hub that notes what is fetched; `about` answers questions about a repository."""
    made = SimpleNamespace(fetched=[], about=lambda: None, fetch=lambda: str(tmp_path))

    def download(name, allow_patterns, local_dir, local_files_only):
        made.fetched.append((name, allow_patterns, local_files_only))
        return made.fetch()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: made.about())
    return made


def fails(error: Exception):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    "error",
    [TransportError("the server disconnected"), OSError("the disk is full"), ValueError()],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_way_there(hub, error) -> None:
    hub.fetch = fails(error)
    with pytest.raises(FileNotFoundError, match=f'adapter "me/a".*{type(error).__name__}'):
        fetch_from_hub("me/a", FILES, "adapter")


@pytest.mark.parametrize(("size", "fine"), [(0, True), (90, True), (91, False), (10**12, False)])
def test_what_is_too_large_is_not_fetched(hub, tmp_path, size, fine) -> None:
    sizes = {"adapter_config.json": 10, "adapter_model.safetensors": size, "model.bin": 10**9}
    files = [SimpleNamespace(rfilename=name, size=one) for name, one in sizes.items()]
    hub.about = lambda: SimpleNamespace(siblings=files)
    if fine:
        assert fetch_from_hub("me/a", FILES, "adapter", most_bytes=100) == tmp_path
        assert hub.fetched == [("me/a", list(FILES), False)]
    else:
        with pytest.raises(FileNotFoundError, match=f"{size + 10} bytes, expected 100 at most"):
            fetch_from_hub("me/a", FILES, "adapter", most_bytes=100)
        assert hub.fetched == []


def test_what_is_of_unknown_size_comes_from_the_cache_alone(hub) -> None:
    hub.about = fails(TransportError("gone"))
    fetch_from_hub("me/a", FILES, "adapter", most_bytes=100)
    assert hub.fetched == [("me/a", list(FILES), True)]
    missing = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    hub.about = fails(missing)
    with pytest.raises(FileNotFoundError, match="RepositoryNotFoundError"):
        fetch_from_hub("me/a", FILES, "adapter", most_bytes=100)
    assert len(hub.fetched) == 1
