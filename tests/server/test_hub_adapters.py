"""Adapters of the hub: fetched once, if they are allowed, and never by another name."""

import shutil
import threading
from pathlib import Path

import pytest

from reftune.server.database.records import Scope
from reftune.server.database.store import Store
from reftune.server.errors import NotFound, Unavailable
from reftune.server.hub_adapters import MISS_SECONDS, MOST_WAITING, HubAdapters
from reftune.server.registry import Registry
from tests.server.fake_engine import FakeEngine, serving
from tests.server.test_database_at_once import in_threads
from tests.tiny_text import byte_level

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(cache: Path, name: str, *files: str) -> Path:
    """Lay out a repository as huggingface_hub keeps it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(files):
        blob = repository / "blobs" / f"{number:040x}"
        blob.parent.mkdir(exist_ok=True)
        blob.write_text("{}")
        (snapshot / file).symlink_to(blob)
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub of which only what was fetched before can be had."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """What the hub is asked for; it has nothing."""
    names = []

    def fetch(name, files, kind, most_bytes):
        names.append(name)
        raise FileNotFoundError(name)

    monkeypatch.setattr("reftune.server.hub_adapters.fetch_from_hub", fetch)
    return names


def test_an_adapter_in_the_hubs_cache(cache) -> None:
    files = ("adapter_config.json", "adapter_model.safetensors")
    folder = in_cache(cache, "me/emoji", *files)
    in_cache(cache, "me/half", files[0])
    hub = HubAdapters(["me/*"])
    assert hub.names() == []
    assert hub.find("me/emoji") == folder
    assert hub.find("me/half") is None
    assert hub.find("me/nothing") is None


def test_only_what_is_allowed_by_its_whole_id_is_listed(cache) -> None:
    files = ("adapter_config.json", "adapter_model.safetensors")
    for name in ("me/emoji", "me/secret"):
        in_cache(cache, name, *files)
    hub = HubAdapters(["me/emoji", "me/nothing", "me/*"])
    assert hub.names() == []
    assert hub.find("me/emoji", fetch=False) is None
    for name in ("me/emoji", "me/secret", "me/nothing"):
        hub.find(name)
    assert hub.names() == ["me/emoji"]
    assert hub.find("me/secret", fetch=False) is not None


def test_what_the_hub_does_not_have_is_asked_for_again_after_a_while(asked, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("reftune.server.hub_adapters.time.monotonic", lambda: now[0])
    hub = HubAdapters(["*"])
    for later, times in ((0, 1), (0, 1), (MISS_SECONDS - 1, 1), (2, 2), (0, 2)):
        now[0] += later
        assert hub.find("me/nothing") is None
        assert asked == ["me/nothing"] * times
    monkeypatch.setattr("reftune.server.hub_adapters.MOST_MISSES", 2)
    for name in ("a/b", "a/c", "me/nothing"):
        assert hub.find(name) is None
    assert asked[2:] == ["a/b", "a/c", "me/nothing"]


def test_names_that_the_hub_has_not_hold_up_no_other_one(cache, monkeypatch) -> None:
    folder = in_cache(cache, "me/emoji", "adapter_config.json", "adapter_model.safetensors")
    go, waiting = threading.Event(), threading.Semaphore(0)

    def fetch(name, files, kind, most_bytes):
        if name == "me/emoji":
            return folder
        waiting.release()
        go.wait(10)
        raise FileNotFoundError(name)

    monkeypatch.setattr("reftune.server.hub_adapters.fetch_from_hub", fetch)
    hub = HubAdapters(["*"])
    slow = [
        threading.Thread(target=hub.find, args=(f"me/{number}",))
        for number in range(MOST_WAITING - 1)
    ]
    for thread in slow:
        thread.start()
    try:
        assert all(waiting.acquire(timeout=10) for _ in slow)
        assert hub.find("me/emoji") == folder
    finally:
        go.set()
    for thread in slow:
        thread.join()


def test_a_cleaned_cache(cache, tmp_path, monkeypatch) -> None:
    files = ("adapter_config.json", "adapter_model.safetensors")
    folder = in_cache(cache, "me/emoji", *files)
    hub = HubAdapters(["me/emoji"])
    store = Store(f"sqlite:///{tmp_path}/server.db")
    registry = Registry(store, None, "org/base", hub)
    assert registry.folder_of("ada", "me/emoji") == folder
    shutil.rmtree(cache)
    assert [model.name for model in registry.names("ada")] == ["org/base"]
    again = in_cache(tmp_path / "again", "me/emoji", *files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "again"))
    assert registry.folder_of("ada", "me/emoji") == again
    assert [model.name for model in registry.names("ada")] == ["org/base", "me/emoji"]
    monkeypatch.setattr(hub, "find", lambda name, fetch: tmp_path / "removed just now")
    assert [model.name for model in registry.names("ada")] == ["org/base"]
    store.close()


@pytest.mark.parametrize(
    ("allowed", "fine", "refused"),
    [
        (["me/emoji"], ["me/emoji"], ["me/other", "you/emoji", "me/emoji2"]),
        (["me/*", "you/x?"], ["me/a", "me/b.c-d", "you/x1"], ["you/x", "ME/a", "mee/a"]),
        (["*"], ["a/b"], ["a", "a/b/c", "/b", "a/", "../b", "a/..", "./b", "a/b\n", "~/b", "a/ä"]),
    ],
)
def test_what_may_be_asked_for(asked, allowed, fine, refused) -> None:
    hub = HubAdapters(allowed)
    for name in [*fine, *refused, "", "x" * 97 + "/y"]:
        assert hub.find(name) is None
    assert asked == fine


@pytest.mark.parametrize("pattern", ["", "me", "a/b/c", "../x", "me/", "https://x/y"])
def test_patterns_that_mean_nothing(pattern) -> None:
    with pytest.raises(ValueError, match="owner/name, owner"):
        HubAdapters([pattern])


def test_many_ask_at_once(monkeypatch, tmp_path) -> None:
    fetched, go = [], threading.Event()

    def fetch(name, files, kind, most_bytes):
        go.wait(10)
        for file in files:
            (tmp_path / file).touch()
        fetched.append(name)
        return tmp_path

    monkeypatch.setattr("reftune.server.hub_adapters.fetch_from_hub", fetch)
    hub, refused = HubAdapters(["*"]), []

    def ask() -> Path | str:
        try:
            return hub.find("me/emoji") or "nothing"
        except Unavailable as error:
            refused.append(error.code)
            if len(refused) == 4:
                go.set()
            return error.code

    # Those that find no place are told so at once, while the others still wait.
    found = in_threads(MOST_WAITING + 4, ask)
    assert sorted(map(str, found)) == sorted([str(tmp_path)] * MOST_WAITING + ["unavailable"] * 4)
    assert fetched == ["me/emoji"]


def test_models_of_the_hub(cache, tmp_path) -> None:
    folder = in_cache(cache, "me/emoji", "adapter_config.json", "adapter_model.safetensors")
    store = Store(f"sqlite:///{tmp_path}/server.db")
    registry = Registry(store, None, "org/base", HubAdapters(["me/*", "org/*", "me/emoji"]))
    assert registry.folder_of("ada", "me/emoji") == folder
    assert registry.folder_of("ada", "org/base") is None
    assert [model.name for model in registry.names("eve")] == ["org/base", "me/emoji"]
    assert registry.find("ada", "me/emoji").kind == "shared"
    with pytest.raises(NotFound):
        Registry(store, None, "org/base").find("ada", "me/emoji")
    store.add_adapter("ada", "me/emoji", "/mine", "org/base")
    assert registry.folder_of("ada", "me/emoji") == Path("/mine")
    store.close()


def test_over_http(cache, tmp_path) -> None:
    folder = in_cache(cache, "me/emoji", "adapter_config.json", "adapter_model.safetensors")
    engine = FakeEngine(byte_level(chat=True), lambda prompt, sampling: [70])
    with serving(engine, tmp_path / "state", hub=HubAdapters(["me/*"])) as served:
        client = served.client()
        chat = [{"role": "user", "content": "hi"}]
        for name, status in (("me/emoji", 200), ("me/nothing", 404), ("you/emoji", 404)):
            body = {"model": name, "messages": chat, "max_tokens": 1}
            answer = served.post("/v1/chat/completions", json=body)
            assert (name, answer.status_code) == (name, status)
        assert [one.adapter for one in engine.requests.values()] == [folder]
        assert client.models.retrieve("me/emoji").id == "me/emoji"
        assert served.http.delete(f"{served.url}/v1/models/me/emoji").status_code == 403


def test_only_keys_that_may_chat_have_anything_fetched(asked, tmp_path) -> None:
    engine = FakeEngine(byte_level(chat=True), lambda prompt, sampling: [70])
    cases: list[tuple[Scope, list[str]]] = [("train", []), ("chat", ["me/a"])]
    with serving(engine, tmp_path / "state", hub=HubAdapters(["me/*"])) as served:
        for scope, fetched in cases:
            _, secret = served.store.create_key("ada", frozenset([scope]))
            key = {"Authorization": f"Bearer {secret}"}
            for path in ("/v1/models/me/a", "/v1/adapters/me/a/download"):
                assert served.get(path, headers=key).status_code == 404
            job = {"model": "me/a", "training_file": "file-x"}
            served.post("/v1/fine_tuning/jobs", json=job, headers=key)
            served.http.delete(f"{served.url}/v1/models/me/b", headers=key)
            assert asked == fetched
