"""Who asks: a bearer key of the store, or anybody on this machine while there are no keys."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers

from reftune.server.api.errors import Forbidden, Unauthorized
from reftune.server.database.records import SCOPES, Scope
from reftune.server.database.store import Store
from reftune.server.settings import is_loopback

NOBODY = "this server wants an API key: send the header Authorization: Bearer KEY"
UNKNOWN = "this API key is not valid; it is unknown or revoked"


@dataclass(frozen=True)
class Identity:
    """Who asks; ``key`` is `None` where no key is needed."""

    tenant: str
    scopes: frozenset[Scope]
    key: str | None

    @property
    def may_chat(self) -> bool:
        """Whether it may ask models."""
        return not self.scopes.isdisjoint({"chat", "admin"})


LOCAL = Identity("local", SCOPES, None)


class Authenticator:
    """Holds requests against the keys of a store.

    Without keys, a server that only this machine reaches is open: whoever asks is ``LOCAL``. From
    the first key on (a revoked one counts) every request needs one.
    """

    def __init__(self, store: Store, loopback: bool) -> None:
        self._store = store
        self._may_be_open = loopback

    def identify(self, headers: Headers) -> Identity:
        """Tell who sent a request with these headers; asks the database.

        Raises:
            Unauthorized: a key is needed, and there is none or an unknown one.
            Forbidden: no key is needed, and the request comes from a page of another site.
        """
        if self.is_open():
            _refuse_other_sites(headers)
            return LOCAL
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Unauthorized(NOBODY)
        key = self._store.find_key(secret.strip())
        if key is None:
            raise Unauthorized(UNKNOWN)
        return Identity(key.tenant, key.scopes, key.id)

    def is_open(self) -> bool:
        """Tell whether no key is needed; asks the database."""
        if self._may_be_open and self._store.has_keys():
            self._may_be_open = False
        return self._may_be_open


def _refuse_other_sites(headers: Headers) -> None:
    """Refuse what a page in the user's browser sends here without the user's knowing.

    A page may send to any address of this machine; the browser then names the page's own site as
    the origin. And a foreign name may be made to point to this machine: the browser then names it
    as the host.
    """
    host = headers.get("host", "")
    if not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise Forbidden(f'without keys, only this machine is answered, not "{host:.60}"')
    origin = headers.get("origin")
    if origin and urlsplit(origin).netloc != host:
        raise Forbidden(f'without keys, pages of other sites ("{origin:.60}") are not answered')


def _allowed(*scopes: Scope) -> Callable[[Request], Identity]:
    """Make a dependency that gives who asks, and refuses keys with none of these scopes.

    A key for `admin` may do everything.
    """

    def check(request: Request) -> Identity:
        identity: Identity = request.scope["identity"]  # the gate found it out
        if not identity.scopes & {*scopes, "admin"}:
            has, needed = ", ".join(sorted(identity.scopes)), '" or "'.join(scopes)
            raise Forbidden(f'this API key is for {has}; expected one with the scope "{needed}"')
        return identity

    return check


# The types of an endpoint's parameter, for what a key must be good for.
Chatting = Annotated[Identity, Depends(_allowed("chat"))]
Training = Annotated[Identity, Depends(_allowed("train"))]
Knowing = Annotated[Identity, Depends(_allowed("chat", "train"))]
Administering = Annotated[Identity, Depends(_allowed("admin"))]
