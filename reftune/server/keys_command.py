"""`reftune keys`: making, listing and revoking API keys; the command line calls these functions."""

from datetime import UTC, datetime
from typing import Any

from reftune.server.database.records import SCOPES, KeyRecord, Scope
from reftune.server.database.store import Store
from reftune.server.errors import ServerError


def create_key(store: Store, tenant: str, scopes: str, name: str = "") -> dict[str, Any]:
    """Make a key.

    Args:
        store: that will have it.
        tenant: whom it belongs to.
        scopes: what it allows, with commas between, such as ``"chat,train"``.
        name: for people.

    Returns:
        Facts about the key, and as ``"secret"`` what a client sends, which is shown this once.

    Raises:
        ValueError: a name that cannot be one, or an unknown scope.
    """
    try:
        key, secret = store.create_key(tenant, _scopes(scopes), name)
    except ServerError as error:
        raise ValueError(error.message) from error
    return {**describe(key), "secret": secret}


def list_keys(store: Store) -> list[dict[str, Any]]:
    """Return facts about all keys, the oldest first."""
    return [describe(key) for key in store.list_keys()]


def revoke_key(store: Store, key_id: str) -> dict[str, Any]:
    """Make a key invalid, for good; return facts about it.

    Raises:
        ValueError: there is no such key.
    """
    try:
        return describe(store.revoke_key(key_id))
    except ServerError as error:
        raise ValueError(f"{error.message} (`reftune keys list` shows all)") from error


def describe(key: KeyRecord) -> dict[str, Any]:
    """Gather what can be told about a key."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        "created": _time(key.created_at),
        "revoked": None if key.revoked_at is None else _time(key.revoked_at),
    }


def _scopes(text: str) -> frozenset[Scope]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCOPES:
            raise ValueError(f'scope "{name}": expected some of {", ".join(sorted(SCOPES))}')
    return frozenset(scope for scope in SCOPES if scope in names)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
