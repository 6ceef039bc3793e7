"""Which names lead to which folder, and which lead nowhere."""

import logging
import os
from pathlib import Path

import pytest

from reftune.server.database.identifiers import new_id
from reftune.server.database.store import Store
from reftune.server.errors import BadRequest, NotFound
from reftune.server.registry import Registry, trained_name


def make_adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    return folder


@pytest.fixture
def database(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/server.db")
    yield store
    store.close()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder of adapters, beside others that are not for everybody."""
    make_adapter(tmp_path / "outside")
    make_adapter(tmp_path / "adapters" / "emoji")
    make_adapter(tmp_path / "adapters" / "German_v1.2")
    (tmp_path / "adapters" / "notes").mkdir()
    return tmp_path / "adapters"


@pytest.fixture
def registry(database: Store, shared: Path) -> Registry:
    return Registry(database, shared, "org/base")


def test_base_shared_and_own(registry, database, shared) -> None:
    own = database.add_adapter("ada", "ft:org/base:tips:12345678", "/state/a", "org/base")
    assert registry.folder_of("ada", "org/base") is None
    assert registry.folder_of("ada", "emoji") == shared / "emoji"
    assert registry.folder_of("ada", own.name) == Path("/state/a")
    listed = registry.names("ada")
    assert [(model.name, model.kind) for model in listed] == [
        ("org/base", "base"),
        ("German_v1.2", "shared"),
        ("emoji", "shared"),
        (own.name, "own"),
    ]
    for model in listed:
        assert registry.find("ada", model.name) == model
        assert registry.folder_of("ada", model.name) == model.folder
    assert listed[2].created_at == int((shared / "emoji").stat().st_mtime)


def test_another_tenants_adapter_does_not_exist(registry, database) -> None:
    database.add_adapter("ada", "ft:x", "/state/a", "org/base")
    with pytest.raises(NotFound) as theirs:
        registry.folder_of("eve", "ft:x")
    database.delete_adapter("ada", "ft:x")
    with pytest.raises(NotFound) as nobodys:
        registry.folder_of("eve", "ft:x")
    assert vars(theirs.value) == vars(nobodys.value)
    assert (theirs.value.code, theirs.value.status) == ("model_not_found", 404)
    assert [model.name for model in registry.names("eve")] == ["org/base", "German_v1.2", "emoji"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "../adapters/emoji",
        "emoji/",
        "emoji/.",
        "emoji/../emoji",
        "./emoji",
        "{outside}",
        "emoji\0",
        "emoji\0/../x",
        "emoji\n",
        "emoji ",
        ".hidden",
        "..\\outside",
        "%2e%2e%2foutside",
        "notes",
        "Emoji",
        "x" * 129,
        "x" * 100_000,
        "\ud800",
        "émoji",
        "~",
        "org",
    ],
)
def test_names_that_lead_nowhere(registry, shared, name) -> None:
    make_adapter(shared / ".hidden")
    make_adapter(shared / "émoji")
    make_adapter(shared / "x" / ("x" * 129))
    with pytest.raises(NotFound) as refused:
        registry.folder_of("ada", name.format(outside=shared.parent / "outside"))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert len(refused.value.message) < 400
    assert not {model.name for model in registry.names("ada")} & {name, ".hidden", "émoji"}


def test_links_lead_nowhere_but_inside(database, shared) -> None:
    outside = shared.parent / "outside"
    (shared / "whole").symlink_to(outside)
    (shared / "relative").symlink_to("../outside")
    (shared / "chain").symlink_to(shared / "whole")
    (shared / "circle").symlink_to(shared / "circle")
    (shared / "nowhere").symlink_to(shared / "gone")
    (shared / "parent").symlink_to(shared.parent)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        folder = make_adapter(shared / f"file-{file[8:11]}")
        (folder / file).unlink()
        (folder / file).symlink_to(outside / file)
    (shared / "inside").symlink_to(shared / "emoji")
    registry = Registry(database, shared, "base")
    good = {"base", "German_v1.2", "emoji", "inside"}
    assert {model.name for model in registry.names("ada")} == good
    assert registry.folder_of("ada", "inside") == shared / "emoji"
    for name in {path.name for path in shared.iterdir()} - good:
        with pytest.raises(NotFound):
            registry.folder_of("ada", name)


def test_the_folder_itself_may_be_a_link(database, shared) -> None:
    link = shared.parent / "link"
    link.symlink_to(shared)
    assert Registry(database, link, "base").folder_of("ada", "emoji") == shared / "emoji"


def test_adapters_come_and_go(registry, database, shared) -> None:
    make_adapter(shared / "new")
    assert registry.folder_of("ada", "new") == shared / "new"
    os.rename(shared / "new", shared.parent / "elsewhere")
    with pytest.raises(NotFound):
        registry.folder_of("ada", "new")
    (shared / "emoji" / "adapter_model.safetensors").unlink()  # being replaced
    with pytest.raises(NotFound):
        registry.folder_of("ada", "emoji")
    os.rename(shared, shared.parent / "away")
    assert [model.name for model in registry.names("ada")] == ["org/base"]


def test_equal_names(database, shared, caplog) -> None:
    make_adapter(shared / "base")
    make_adapter(shared / "ünfit")
    with caplog.at_level(logging.WARNING):
        registry = Registry(database, shared, "base")
    assert "'base' is not served: it is named like the base model" in caplog.text
    assert "'ünfit' is not served" in caplog.text
    assert "emoji" not in caplog.text
    assert registry.folder_of("ada", "base") is None
    database.add_adapter("ada", "emoji", "/state/mine", "base")
    database.add_adapter("ada", "base", "/state/mine", "base")
    assert registry.folder_of("ada", "emoji") == Path("/state/mine")
    assert registry.folder_of("eve", "emoji") == shared / "emoji"
    assert registry.folder_of("ada", "base") is None
    kinds = {model.name: model.kind for model in registry.names("ada")}
    assert kinds == {"base": "base", "emoji": "own", "German_v1.2": "shared"}
    assert len(registry.names("ada")) == 3


def test_without_a_folder(database, tmp_path) -> None:
    registry = Registry(database, None, "base")
    assert [model.name for model in registry.names("ada")] == ["base"]
    with pytest.raises(NotFound):
        registry.folder_of("ada", "emoji")
    with pytest.raises(NotADirectoryError, match="nowhere"):
        Registry(database, tmp_path / "nowhere", "base")
    for name in ("", "a\0", "a\n", "x" * 129):
        with pytest.raises(ValueError, match="model name"):
            Registry(database, None, name)


def test_names_of_trained_adapters(registry, database) -> None:
    id = new_id("ftjob")
    assert trained_name("base", None, id) == f"ft:base:reft:{id[6:14]}"
    assert trained_name("a/b", "tips_1.0-x", id) == f"ft:a/b:tips_1.0-x:{id[6:14]}"
    longest = trained_name("x" * 128, "x" * 64, id)
    database.add_adapter("ada", longest, "/a", "base")
    assert registry.folder_of("ada", longest) == Path("/a")
    for suffix in ("", "x" * 65, "a/b", "..", "a b", "a\0", "a:b", "ä", "\ud800"):
        with pytest.raises(BadRequest) as refused:
            trained_name("base", suffix, id)
        assert refused.value.param == "suffix"
