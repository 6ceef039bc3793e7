"""API keys."""

from sqlalchemy import select

from reftune.server.database.identifiers import (
    KEY,
    SECRET_PREFIX,
    check_text,
    hash_secret,
    is_id,
    is_tenant,
    new_id,
    new_secret,
)
from reftune.server.database.models import Key
from reftune.server.database.records import SCOPES, KeyRecord, Scope
from reftune.server.database.tables import Tables, now, record
from reftune.server.errors import BadRequest, NotFound


class KeyTable(Tables):
    """The keys; they are the operator's, so their methods take no tenant."""

    def create_key(
        self, tenant: str, scopes: frozenset[Scope], name: str = ""
    ) -> tuple[KeyRecord, str]:
        """Make a key.

        Args:
            tenant: whom it belongs to: letters, digits, dots, dashes and underscores.
            scopes: what it allows.
            name: for people.

        Returns:
            The key, and its secret, which cannot be had again.

        Raises:
            BadRequest: a name that cannot be one, no scope, or an unknown one.
        """
        if not is_tenant(tenant):
            raise BadRequest(
                f"tenant {tenant!r}: expected up to 64 letters, digits, dots, dashes and "
                "underscores, the first a letter or a digit",
                "tenant",
            )
        if not scopes or not scopes <= SCOPES:
            raise BadRequest(
                f"scopes {', '.join(sorted(scopes)) or 'are empty'}: expected some of "
                f"{', '.join(sorted(SCOPES))}",
                "scopes",
            )
        check_text("name", name, 256)
        secret = new_secret()
        key = Key(
            id=new_id(KEY),
            tenant=tenant,
            name=name,
            prefix=secret[:SECRET_PREFIX],
            sha256=hash_secret(secret),
            scopes=",".join(sorted(scopes)),
            created_at=now(),
        )
        with self._database.writing() as session:
            session.add(key)
            session.flush()
            return _record(key), secret

    def find_key(self, secret: str) -> KeyRecord | None:
        """Return the valid key that has this secret; None if there is none, or it was revoked.

        The database looks for the hash, so how long that takes tells nothing about other secrets.
        """
        with self._database.reading() as session:
            key = session.scalar(select(Key).where(Key.sha256 == hash_secret(secret)))
            return None if key is None or key.revoked_at is not None else _record(key)

    def has_keys(self) -> bool:
        """Say whether a key was ever made: revoking the last one must not open the server."""
        with self._database.reading() as session:
            return session.scalar(select(Key.seq).limit(1)) is not None

    def list_keys(self) -> list[KeyRecord]:
        """Return all keys, the oldest first, with those that were revoked."""
        with self._database.reading() as session:
            return [_record(key) for key in session.scalars(select(Key).order_by(Key.seq))]

    def revoke_key(self, key_id: str) -> KeyRecord:
        """Make a key invalid, for good. One that is invalid already stays as it is.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.writing() as session:
            query = select(Key).where(Key.id == key_id).with_for_update()
            key = session.scalar(query) if is_id(KEY, key_id) else None
            if key is None:
                raise NotFound(f"there is no key {key_id!r}", "key_id")
            if key.revoked_at is None:
                key.revoked_at = now()
            return _record(key)


def _record(key: Key) -> KeyRecord:
    scopes: frozenset[Scope] = frozenset(
        scope for scope in SCOPES if scope in key.scopes.split(",")
    )
    return record(KeyRecord, key, scopes=scopes)
