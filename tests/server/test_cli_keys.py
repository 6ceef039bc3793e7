"""`reftune keys`, always through `main`, and the folder of the state."""

import json
import os
import stat
from pathlib import Path

import pytest

from reftune.cli import main
from reftune.server.database.store import Store
from reftune.server.state import StateLock, database_url, default_state


def keys(folder: Path, *words: str) -> int:
    return main(["keys", words[0], "--state", str(folder), *words[1:]])


def test_make_list_revoke(tmp_path, capsys) -> None:
    folder = tmp_path / "state of it %20#&"
    assert keys(folder, "list") == 0
    told, err = capsys.readouterr()
    assert (told, "there are no keys" in err) == ("", True)
    assert keys(folder, "create", "--tenant", "ada", "--name", "laptop", "--json") == 0
    told, err = capsys.readouterr()
    made = json.loads(told)
    assert (made["tenant"], made["name"]) == ("ada", "laptop")
    assert made["scopes"] == ["chat", "train"]
    assert "cannot be shown again" in err
    assert keys(folder, "create", "--tenant", "bob", "--scopes", "admin, chat") == 0
    assert "rt-" in capsys.readouterr().out
    assert keys(folder, "list") == 0
    told = capsys.readouterr().out
    assert made["id"] in told
    assert made["secret"] not in told
    assert [line.split()[1] for line in told.splitlines()[2:]] == ["ada", "bob"]

    store = Store(database_url(folder))
    assert store.find_key(made["secret"]).scopes == {"chat", "train"}
    assert keys(folder, "revoke", made["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["revoked"] is not None
    assert store.find_key(made["secret"]) is None
    store.close()
    assert keys(folder, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [key["revoked"] is None for key in listed] == [False, True]
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
    assert (folder / "server.db").is_file()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "--tenant", "a/b"], "tenant 'a/b': expected up to 64 letters"),
        (["create", "--tenant", "a", "--scopes", "chat,root"], 'scope "root": expected some of'),
        (["create", "--tenant", "a", "--scopes", ""], 'scope ""'),
        (["create", "--tenant", "a", "--name", "x" * 300], "name has 300 characters"),
        (["revoke", "key-x"], "there is no key 'key-x' (`reftune keys list`"),
        (["list", "--database", "mysql://u:secret@h/x"], "expected sqlite or postgresql"),
        (["list", "--database", "sqlite:////no/such/folder/x.db"], "unable to open database file"),
    ],
)
def test_wrong_commands(tmp_path, capsys, words, says) -> None:
    assert keys(tmp_path, *words) == 2
    told, err = capsys.readouterr()
    assert (told, err.count("\n")) == ("", 1)
    assert err.startswith("reftune: error: ")
    assert says in err
    assert "secret" not in err


def test_a_state_that_is_a_file(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    assert keys(tmp_path / "file", "list") == 2
    assert "is a file; expected a folder" in capsys.readouterr().err


def test_a_path_that_looks_like_a_query(tmp_path) -> None:
    folder = tmp_path / "a?mode=memory"
    if keys(folder, "list") == 0:  # else it was refused
        assert (folder / "server.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_another_database(database_url, tmp_path, capsys) -> None:
    words = ["--tenant", "ada", "--json", "--database", database_url]
    assert keys(tmp_path / "unused", "create", *words) == 0
    store = Store(database_url)
    assert store.find_key(json.loads(capsys.readouterr().out)["secret"]).tenant == "ada"
    store.close()
    assert not (tmp_path / "unused").exists()


def test_what_is_missing_is_named(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("reftune.server.extras.NEEDED", ("sqlalchemy", "no_such_package"))
    assert keys(tmp_path, "list") == 2
    assert "needs no_such_package: pip install 'reftune[serve]'" in capsys.readouterr().err


def test_where_the_state_is(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state() == tmp_path / "reftune"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state() == tmp_path / ".local" / "state" / "reftune"
    assert database_url(tmp_path, "postgresql://h/x") == "postgresql://h/x"


def test_one_server_for_one_state(tmp_path) -> None:
    first = StateLock(tmp_path)
    with pytest.raises(BlockingIOError, match="used by another server"):
        StateLock(tmp_path)
    first.release()
    StateLock(tmp_path).release()
    assert os.listdir(tmp_path) == ["lock"]
