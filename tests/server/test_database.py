"""The store's keys and files, on both databases."""

import hashlib
import time
from dataclasses import replace

import pytest
from sqlalchemy import text

from reftune.server.database.identifiers import new_id
from reftune.server.database.records import SCOPES, Usage
from reftune.server.errors import BadRequest, NotFound
from tests.server.filled import add_file


def test_keys_live_until_they_are_revoked(store) -> None:
    assert not store.has_keys()
    before = int(time.time())
    key, secret = store.create_key("ada", frozenset(["chat", "train"]), "laptop")
    other, other_secret = store.create_key("bob", SCOPES)
    assert before <= key.created_at <= time.time()
    assert (key.tenant, key.name, key.scopes) == ("ada", "laptop", {"chat", "train"})
    assert secret.startswith("rt-")
    assert len(secret) == 3 + 43  # 32 bytes
    assert (key.prefix, key.revoked_at) == (secret[:8], None)
    assert store.list_keys() == [key, other]
    assert (store.find_key(secret), store.find_key(other_secret)) == (key, other)
    for wrong in ("", secret[:-1], f"{secret}x", key.prefix, key.id, "\0", "\ud800", "rt-'; --"):
        assert store.find_key(wrong) is None

    revoked = store.revoke_key(key.id)
    assert replace(revoked, revoked_at=None) == key
    assert revoked.revoked_at >= before
    assert store.find_key(secret) is None
    assert store.find_key(other_secret) == other
    assert store.revoke_key(key.id) == revoked
    assert store.list_keys() == [revoked, other]
    store.revoke_key(other.id)
    assert store.has_keys()
    for unknown in (new_id("key"), "key-", secret, "\0"):
        with pytest.raises(NotFound):
            store.revoke_key(unknown)


def test_the_database_does_not_hold_secrets(store) -> None:
    _, secret = store.create_key("ada", frozenset(["chat"]))
    with store._database.reading() as session:
        row = list(session.execute(text("SELECT * FROM keys")).one())
    assert hashlib.sha256(secret.encode()).hexdigest() in row
    assert not any(secret[8:] in str(value) for value in row)


@pytest.mark.parametrize(
    ("tenant", "scopes", "name"),
    [
        ("", ["chat"], ""),
        ("a/b", ["chat"], ""),
        ("../x", ["chat"], ""),
        ("a\0", ["chat"], ""),
        ("ada\n", ["chat"], ""),
        ("a" * 65, ["chat"], ""),
        ("ada", [], ""),
        ("ada", ["chat", "root"], ""),
        ("ada", ["chat"], "a\0"),
        ("ada", ["chat"], "a" * 257),
    ],
)
def test_keys_that_are_refused(store, tenant, scopes, name) -> None:
    with pytest.raises(BadRequest):
        store.create_key(tenant, frozenset(scopes), name)
    assert store.list_keys() == []


def test_files(store) -> None:
    first, second = add_file(store, "ada", "überall ☃.jsonl"), add_file(store, "ada", "../../x")
    other = store.add_file("ada", "z", "eval", bytes=2**40, sha256="00", id=new_id("file"))
    assert (first.name, first.purpose, first.bytes) == ("überall ☃.jsonl", "fine-tune", 12)
    assert first.id != second.id
    assert store.get_file("ada", first.id) == first
    assert store.list_files("ada") == [other, second, first]
    assert store.list_files("ada", purpose="fine-tune") == [second, first]
    assert store.list_files("ada", purpose="\0") == []
    assert store.list_files("ada", limit=1) == [other]
    assert store.list_files("ada", after=other.id, limit=1) == [second]
    assert store.list_files("ada", after=first.id) == []
    assert store.file_ids() == {first.id, second.id, other.id}
    assert store.usage("ada") == Usage(3, 24 + 2**40, 0, 0)
    assert store.delete_file("ada", second.id) == second
    assert store.list_files("ada") == [other, first]
    for call in (store.get_file, store.delete_file):
        for unknown in (second.id, new_id("file"), "x", "file-", "\0", "\ud800", "x" * 10_000):
            with pytest.raises(NotFound):
                call("ada", unknown)
    with pytest.raises(NotFound, match="after"):
        store.list_files("ada", after=second.id)
    for name in ("\0", "\ud800", "x" * 257):
        with pytest.raises(BadRequest) as refused:
            add_file(store, "ada", name)
        assert (refused.value.param, refused.value.status) == ("filename", 400)
