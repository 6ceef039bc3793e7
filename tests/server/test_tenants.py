"""No method shows or changes what is another tenant's, or tells that it is there."""

import functools
import inspect

import pytest

from reftune.server.database.store import Store
from reftune.server.errors import NotFound
from tests.server.filled import add_file, add_job, job_fields

# What each method of a tenant's is called with; `mine` are ids of the tenant who owns things.
CALLS = {
    "get_file": lambda call, who, mine: call(who, mine["file"]),
    "delete_file": lambda call, who, mine: call(who, mine["file"]),
    "list_files": lambda call, who, mine: call(who),
    "get_job": lambda call, who, mine: call(who, mine["job"]),
    "list_jobs": lambda call, who, mine: call(who),
    "request_cancel": lambda call, who, mine: call(who, mine["job"]),
    "list_events": lambda call, who, mine: call(who, mine["job"]),
    "list_checkpoints": lambda call, who, mine: call(who, mine["job"]),
    "add_job": lambda call, who, mine: call(who, **job_fields(mine["file"])),
    "find_adapter": lambda call, who, mine: call(who, "mine"),
    "list_adapters": lambda call, who, mine: call(who),
    "delete_adapter": lambda call, who, mine: call(who, "mine"),
    "add_adapter": lambda call, who, mine: call(who, "x", "/x", "tiny", mine["job"]),
    "usage": lambda call, who, mine: call(who),
}
AFTER = {"list_files": "file", "list_jobs": "job"}
# These make something new, and refer to nothing.
ALONE = {"add_file", "create_key"}


def everything(store: Store) -> list:
    jobs = store.list_jobs("ada")
    return [
        store.list_files("ada"),
        jobs,
        [store.list_events("ada", job.id) for job in jobs],
        [store.list_checkpoints("ada", job.id) for job in jobs],
        store.list_adapters("ada"),
    ]


@pytest.fixture
def mine(store) -> dict[str, str]:
    file, job = add_file(store, "ada"), add_job(store, "ada")
    store.add_checkpoint(job.id, 1, {}, "/c")
    store.add_adapter("ada", "mine", "/a", "tiny", job.id)
    return {"file": file.id, "job": job.id}


def test_every_method_that_takes_a_tenant_is_here() -> None:
    methods = inspect.getmembers(Store, inspect.isfunction)
    takes = {name for name, method in methods if "tenant" in inspect.signature(method).parameters}
    assert takes == set(CALLS) | ALONE


def ask(store: Store, name: str, mine: dict[str, str], adapter: str) -> tuple:
    """Call a method as another tenant; return what it gives, and what it says if it refuses."""
    call = getattr(store, name)
    if name in ("find_adapter", "delete_adapter"):
        call = functools.partial(lambda call, who, _: call(who, adapter), call)
    try:
        return CALLS[name](call, "eve", mine), ""
    except NotFound as error:
        return [], error.message


@pytest.mark.parametrize("name", sorted(CALLS))
def test_another_tenants_things_are_not_there(store, mine, name) -> None:
    before = everything(store)
    seen, refused = ask(store, name, mine, "mine")
    # The same words as for what does not exist at all.
    unknown = {kind: f"{id[:-8]}AAAAAAAA" for kind, id in mine.items()}
    _, expected = ask(store, name, unknown, "nine")
    for kind, id in mine.items():
        expected = expected.replace(unknown[kind], id)
    assert refused == expected.replace("nine", "mine")
    if name == "usage":
        assert (seen.files, seen.file_bytes, seen.unfinished_jobs, seen.adapters) == (0, 0, 0, 0)
    else:
        assert seen == []
    assert everything(store) == before
    # The call is not simply a wrong one: whose things they are gets an answer.
    assert CALLS[name](getattr(store, name), "ada", mine) != []


@pytest.mark.parametrize("name", sorted(AFTER))
def test_pages_do_not_go_on_after_another_tenants_row(store, mine, name) -> None:
    add_job(store, "eve")
    with pytest.raises(NotFound, match="after"):
        getattr(store, name)("eve", after=mine[AFTER[name]])


def test_equal_names_do_not_meet(store, mine) -> None:
    theirs = store.add_adapter("eve", "mine", "/e", "tiny")
    assert store.find_adapter("ada", "mine").folder == "/a"
    assert store.find_adapter("eve", "mine") == theirs
    store.delete_adapter("eve", "mine")
    assert store.find_adapter("ada", "mine").folder == "/a"
