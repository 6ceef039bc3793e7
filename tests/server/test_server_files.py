"""Uploaded files: whole or not there, named by us, within their limit."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest

from reftune.server.database.identifiers import new_id
from reftune.server.database.store import Store
from reftune.server.errors import BadRequest, NotFound, TooLarge, Unavailable
from reftune.server.files import UploadedFiles
from tests.server.filled import add_file, job_fields

CONTENT = bytes(range(256)) * 10_000  # more than is read at once


@pytest.fixture
def database(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/server.db")
    yield store
    store.close()


@pytest.fixture
def files(database: Store, tmp_path: Path) -> UploadedFiles:
    return UploadedFiles(database, tmp_path / "state" / "files")


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state" / "files").iterdir())


def add(files: UploadedFiles, content: bytes = CONTENT, limit: int = 10**9, **other):
    return files.add("ada", other.pop("name", "x"), "p", io.BytesIO(content), limit, **other)


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_what_goes_in_comes_out(files, database, tmp_path, content) -> None:
    file = add(files, content, limit=len(content))
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert files.path("ada", file.id).read_bytes() == content
    assert database.get_file("ada", file.id) == file
    assert names(tmp_path) == [f"{file.id}.jsonl"]
    assert stat.S_IMODE(files.path("ada", file.id).stat().st_mode) == 0o600
    assert stat.S_IMODE(files.path("ada", file.id).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", ".", "x" * 256, "☃", "a b\n"])
def test_the_users_name_is_no_part_of_the_path(files, tmp_path, name) -> None:
    file = add(files, b"x", name=name)
    assert file.name == name
    assert names(tmp_path) == [f"{file.id}.jsonl"]


class Endless(io.RawIOBase):
    """Gives bytes for ever, and counts them."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 < size <= 2**20
        self.given += size
        return b"x" * size


def test_more_than_the_limit_is_not_even_read(files, tmp_path) -> None:
    with pytest.raises(TooLarge, match="more than 3000000 bytes"):
        files.add("ada", "x", "p", stream := Endless(), 3_000_000)
    assert stream.given == 3_000_001
    with pytest.raises(TooLarge) as refused:
        add(files, b"1234", limit=3)
    assert refused.value.status == 413
    assert names(tmp_path) == []


class Breaking(io.RawIOBase):
    """Gives some bytes, then breaks, as the connection of a client may."""

    turns = 3

    def read(self, size: int = -1) -> bytes:
        self.turns -= 1
        if not self.turns:
            raise EOFError("the client has gone")
        return b"x"


def refuse(content: Path) -> None:
    raise BadRequest(f"{content.stat().st_size} bytes are no examples", "file")


def test_what_fails_leaves_nothing(files, database, tmp_path, monkeypatch) -> None:
    with pytest.raises(EOFError):
        files.add("ada", "x", "p", Breaking(), 10)
    with pytest.raises(BadRequest, match="3 bytes"):
        add(files, b"123", check=refuse)
    with pytest.raises(BadRequest):
        add(files, name="\0")

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    for function in ("fsync", "replace", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(os, function, full)
            with pytest.raises(Unavailable) as refused:
                add(files)
        assert str(tmp_path) not in refused.value.message
    assert names(tmp_path) == []
    assert database.list_files("ada") == []


def test_a_file_that_is_looked_at_is_whole(files) -> None:
    seen = []
    add(files, check=lambda path: seen.append(path.read_bytes()))
    assert seen == [CONTENT]


def test_deleting(files, database, tmp_path) -> None:
    file = add(files)
    with files.path("ada", file.id).open("rb") as opened:
        assert files.delete("ada", file.id) == file
        assert opened.read() == CONTENT
    assert names(tmp_path) == []
    for call in (files.path, files.delete):
        for unknown in (file.id, "../server", "\0", ""):
            with pytest.raises(NotFound):
                call("ada", unknown)
    needed = add(files)
    database.add_job("ada", **job_fields(needed.id))
    with pytest.raises(Exception, match="needed by job"):
        files.delete("ada", needed.id)
    assert files.path("ada", needed.id).read_bytes() == CONTENT


def test_other_tenants(files) -> None:
    file = add(files)
    for call in (files.path, files.delete):
        with pytest.raises(NotFound):
            call("eve", file.id)
    assert files.path("ada", file.id).is_file()


def test_content_that_somebody_removed(files, database) -> None:
    file = add_file(database, "ada")
    with pytest.raises(NotFound, match="is gone"):
        files.path("ada", file.id)
    assert files.delete("ada", file.id) == file


def test_leftovers_are_swept_and_nothing_else(files, database, tmp_path) -> None:
    kept = add(files)
    folder = tmp_path / "state" / "files"
    leftovers = [f"{new_id('file')}.jsonl", f"{new_id('file')}.partial", f"{kept.id}.partial"]
    others = ["notes.txt", "file-x.jsonl", f"{new_id('file')}.txt", f"{new_id('ftjob')}.jsonl"]
    for name in (*leftovers, *others):
        (folder / name).write_text("x")
    assert files.sweep() == sorted(leftovers)
    assert names(tmp_path) == sorted([f"{kept.id}.jsonl", *others])
    assert files.sweep() == []
