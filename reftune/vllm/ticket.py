"""What a request of vLLM carries from the front end to the worker, and what its cache is told.

vLLM finds blocks of keys and values again by their tokens. Edited states depend on the adapter too,
and on the prompt's length, from which the last positions are counted: "l1" of one prompt is in the
middle of another that extends it. So blocks may be shared by prompts of one adapter and of one
length alone. The salt says so; it is part of a request's first block, and thereby of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# In `SamplingParams.extra_args`, and in `vllm_xargs` over HTTP.
ASKED = "reft"
SALT = "reftune:"


@dataclass(frozen=True)
class Ticket:
    """The adapter of an admitted request.

    Attributes:
        folder: of the adapter.
        digest: of its files, as the front end saw them.
        length: of the prompt, in tokens.
    """

    folder: str
    digest: str
    length: int

    def salt(self, given: str | None) -> str:
        """Return the cache salt; requests that were given different ones share nothing."""
        return f"{SALT}{self.digest}:{self.length}:{given or ''}"

    def written(self) -> dict[str, Any]:
        """Return it as the plain data that travels with the request."""
        return {"folder": self.folder, "digest": self.digest, "length": self.length}

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None, length: int) -> "Ticket | None":
        """Return the ticket of a request, `None` if it asks for no adapter.

        Args:
            extra_args: of the request's `SamplingParams`.
            length: of its prompt.

        Raises:
            RuntimeError: it asks for one, but was not admitted by the front end.
        """
        given = (extra_args or {}).get(ASKED)
        if given is None:
            return None
        names = {"folder", "digest", "length"}
        if not isinstance(given, Mapping) or set(given) != names or given["length"] != length:
            raise RuntimeError(
                f"a request with a prompt of {length} tokens came with {ASKED}={given!r:.200}: "
                "expected a ticket of reftune's plug-in; is it loaded in the front end "
                "(VLLM_PLUGINS)?"
            )
        return cls(**given)


def refuse_forged(salt: str | None) -> None:
    """Refuse a salt with which a request could read what adapters have left in the cache.

    Raises:
        ValueError: it begins as ours do.
    """
    if salt is not None and salt.startswith(SALT):
        raise ValueError(f"cache_salt {salt!r:.100}: expected one that does not begin with {SALT}")
