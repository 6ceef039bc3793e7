"""Stores on both databases. PostgreSQL is started for the tests, if it is installed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from reftune.server.database.store import Store
from reftune.serving.engine import Engine
from tests.server.trained import Desk, new_engine
from tests.serving.engines import SERVES

# These have a real engine.
WITH_ENGINE = ["test_worker.py", "test_worker_stopping.py", "test_end_to_end.py"]
collect_ignore = [] if SERVES else WITH_ENGINE

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def find_tool(name: str) -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, INSTALLED)])
    if (tool := shutil.which(name, path=places)) is None:
        pytest.skip(f"PostgreSQL is not installed: there is no {name}")
    return tool


def other_user() -> dict:
    """Arguments of `subprocess`, for PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that listens on a socket in a folder of its own."""
    pytest.importorskip("psycopg")
    initdb, server = find_tool("initdb"), find_tool("postgres")
    folder = Path(tempfile.mkdtemp(prefix="reftune-postgres-"))
    as_other = other_user()
    if as_other:
        os.chown(folder, as_other["user"], as_other["group"])
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, **as_other}
    options = ["--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run([initdb, "-D", str(folder / "data"), *options], check=True, **quiet)
    alone = [
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
        "-c",
        f"unix_socket_directories={folder}",
    ]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [server, "-D", str(folder / "data"), *alone], stderr=log, **quiet
        )
    url = f"postgresql://postgres@/postgres?host={folder}"
    try:
        wait_for(running, folder, url)
        yield url
    finally:
        running.send_signal(signal.SIGINT)  # ends it at once, but in order
        running.wait(30)
        shutil.rmtree(folder)


def wait_for(running: subprocess.Popen, folder: Path, url: str) -> None:
    import psycopg

    for _ in range(300):
        if running.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(folder / 'log').read_text()}")
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL does not answer: {(folder / 'log').read_text()}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/server.db"
        return
    server = request.getfixturevalue("postgres")
    name = f"t{time.monotonic_ns()}"
    engine = create_engine(
        server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.replace("/postgres?", f"/{name}?")
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store that has nothing in it."""
    store = Store(database_url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = new_engine()
    engine.start()
    yield engine
    engine.stop(drain=False)


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(engine, tmp_path / "state")
    yield desk
    desk.close()
