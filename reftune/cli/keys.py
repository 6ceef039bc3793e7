"""`reftune keys`: the API keys of a server."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.cli.console import note, print_facts, table

EXAMPLES = """\
examples:
  reftune keys create --tenant ada                     # may chat and train
  reftune keys create --tenant ada --scopes chat --name "the web site"
  reftune keys create --tenant ops --scopes admin --json | jq -r .secret
  reftune keys list
  reftune keys revoke key-4fRGU8k1ZrRkT3OoTBTsUU6W

scopes: chat (ask models), train (upload files, train and delete adapters), admin (all of it).
A tenant's files, jobs and adapters are seen with that tenant's keys alone. From the first key on,
the server demands one with every request, also after all have been revoked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key, and show its secret this once")
    create.add_argument("--tenant", metavar="T", required=True, help="whom the key belongs to")
    create.add_argument(
        "--scopes", metavar="S", default="chat,train", help="what it allows (chat,train)"
    )
    create.add_argument("--name", metavar="N", default="", help="for people")
    show = actions.add_parser("list", help="show all keys; their secrets are not stored")
    revoke = actions.add_parser("revoke", help="make a key invalid, for good")
    revoke.add_argument("id", metavar="KEY", help="its id, as `reftune keys list` shows it")
    for action in (create, show, revoke):
        action.add_argument("--json", action="store_true", help="print JSON")
        action.add_argument("--state", metavar="DIR", help="the server's folder, as for serve")
        action.add_argument("--database", metavar="URL", help="the database, as for serve")
        # Known to the command itself too; here as well, so that it may stand at the end.
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Do what is asked for."""
    from reftune.server.extras import need_serve

    need_serve()
    from reftune.server.database.store import Store
    from reftune.server.state import database_url, default_state, make_state

    state = default_state() if args.state is None else Path(args.state)
    if args.database is None:
        make_state(state)
    store = Store(database_url(state, args.database))
    try:
        _act(store, args)
    finally:
        store.close()
    return 0


def _act(store: Any, args: argparse.Namespace) -> None:
    from reftune.server.keys_command import create_key, list_keys, revoke_key

    if args.action == "create":
        print_facts(create_key(store, args.tenant, args.scopes, args.name), args.json)
        note("the secret is not stored, and cannot be shown again")
    elif args.action == "list":
        _print_list(list_keys(store), args.json)
    else:
        print_facts(revoke_key(store, args.id), args.json)


def _print_list(keys: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(keys, ensure_ascii=False))
    elif not keys:
        note("there are no keys (`reftune keys create` makes one)")
    else:
        cells = [[_cell(value) for value in key.values()] for key in keys]
        print(table(cells, header=list(keys[0])))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return value or "-"
