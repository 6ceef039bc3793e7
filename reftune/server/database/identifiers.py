"""Ids, secrets, and which texts and numbers both databases can hold."""

import hashlib
import re
import secrets

from reftune.server.errors import BadRequest

KEY, FILE, JOB = "key", "file", "ftjob"
EVENT, CHECKPOINT = "ftevent", "ftckpt"
SECRET_PREFIX = 8  # characters of a secret that are kept to tell keys apart
# 24 of the 64 characters that need no quoting in a URL: 144 bits.
_ID = re.compile(r"(?:key|file|ftjob|ftevent|ftckpt)-[A-Za-z0-9_-]{24}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def new_id(kind: str) -> str:
    """Make an id, such as ``file-`` and 24 random characters."""
    return f"{kind}-{secrets.token_urlsafe(18)}"


def is_id(kind: str, text: str) -> bool:
    """Say whether a text has the form of an id of this kind."""
    return text.startswith(f"{kind}-") and _ID.fullmatch(text) is not None


def new_secret() -> str:
    """Make the secret of an API key: ``rt-`` and 32 random bytes."""
    return f"rt-{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """Hash a secret, which is random, so no salt or slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_tenant(text: str) -> bool:
    """Say whether a text may be the name of a tenant."""
    return _TENANT.fullmatch(text) is not None


def is_storable(text: str) -> bool:
    """Say whether both databases can hold a text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def check_text(param: str, text: str | None, longest: int) -> None:
    """Refuse a text that cannot be stored, or is longer than ``longest`` characters.

    Raises:
        BadRequest: names the parameter.
    """
    if text is None:
        return
    if len(text) > longest:
        raise BadRequest(f"{param} has {len(text)} characters; expected {longest} at most", param)
    if not is_storable(text):
        raise BadRequest(f"{param} holds a NUL or half a surrogate pair; expected text", param)


def check_integer(param: str, number: int) -> None:
    """Refuse a number that does not fit in 64 bits.

    Raises:
        BadRequest: names the parameter.
    """
    if not -(2**63) <= number < 2**63:
        raise BadRequest(f"{param} is {number}; expected a number of 64 bits", param)


def without_unstorable(text: str) -> str:
    """Replace what the databases cannot hold, in a text of our own such as an error's."""
    return "".join(character if is_storable(character) else "\ufffd" for character in text)
