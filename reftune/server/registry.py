"""Which models a tenant may ask for, and the folders they are in."""

import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reftune.server.database.identifiers import is_storable
from reftune.server.database.records import AdapterRecord
from reftune.server.database.store import Store
from reftune.server.errors import BadRequest, NotFound
from reftune.server.hub_adapters import HubAdapters

LOG = logging.getLogger(__name__)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LONGEST_NAME = 256
LONGEST_BASE = 128  # leaves room for the rest of a trained adapter's name
# No slash and no dot in front, so that a name is never more than a folder's own name.
_SHARED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_JOB_CHARACTERS = 8


@dataclass(frozen=True)
class ModelRecord:
    """A model that a tenant may ask for.

    Attributes:
        name: that it is asked for by.
        kind: the base model, an adapter that everybody may use, or one of the tenant's own, which
            alone may be deleted.
        created_at: in seconds since 1970.
        folder: of the adapter; `None` for the base model.
        job_id: the job that made it, if one did.
    """

    name: str
    kind: Literal["base", "shared", "own"]
    created_at: int
    folder: Path | None = None
    job_id: str | None = None


class Registry:
    """The base model, the adapters in a folder, and those that tenants have trained.

    The folder is looked at anew with every request, so adapters may come and go while the server
    runs. Of two models with one name, the base model comes first, then the tenant's own.

    Args:
        store: that knows the tenants' adapters.
        shared: folder of the adapters that everybody may use, each in a sub-folder of its name;
            `None` for none.
        base_name: the base model's name.
        hub: adapters of the hub that everybody may use; `None` for none.

    Raises:
        NotADirectoryError: ``shared`` is no folder.
        ValueError: ``base_name`` cannot be a model's name.
    """

    def __init__(
        self, store: Store, shared: Path | None, base_name: str, hub: HubAdapters | None = None
    ):
        if not _is_name(base_name) or len(base_name) > LONGEST_BASE:
            raise ValueError(
                f"model name {base_name!r}: expected 1 to {LONGEST_BASE} characters that can be "
                "printed"
            )
        if shared is not None and not shared.is_dir():
            raise NotADirectoryError(f'adapters "{shared}": expected a folder')
        self.base_name = base_name
        self._store = store
        self._hub = hub
        self._shared = None if shared is None else shared.resolve()
        # The base model has no date of its own that would be the same after the next start.
        self._base = ModelRecord(base_name, "base", created_at=0)
        self._warn()

    def folder_of(self, tenant: str, model: str) -> Path | None:
        """Return the folder of an adapter, or None for the base model.

        Raises:
            NotFound: the tenant may not ask for a model of this name; whether another one may is
                not told.
        """
        return self.find(tenant, model).folder

    def find(self, tenant: str, model: str, fetch: bool = True) -> ModelRecord:
        """Return a model.

        Args:
            tenant: who asks.
            model: its name.
            fetch: whether one of the hub is fetched if that was not done before.

        Raises:
            NotFound: the tenant may not ask for a model of this name.
            Unavailable: it is on the hub, which is asked by too many already.
        """
        if model == self.base_name:
            return self._base
        if _is_name(model):
            try:
                return _own(self._store.find_adapter(tenant, model))
            except NotFound:
                shared = self._find_shared(model) or self._find_on_hub(model, fetch)
                if shared is not None:
                    return shared
        raise NotFound(
            f"the model {_clipped(model)!r} does not exist", "model", code="model_not_found"
        )

    def names(self, tenant: str) -> list[ModelRecord]:
        """Return all models that a tenant may ask for: the base, then the rest by name."""
        found: dict[str, ModelRecord] = {}
        for name in self._candidates():
            if (shared := self._find_shared(name)) is not None:
                found[name] = shared
        for name in [] if self._hub is None else self._hub.names():
            if (fetched := self._find_on_hub(name, fetch=False)) is not None:
                found[name] = fetched
        for adapter in self._store.list_adapters(tenant):
            found[adapter.name] = _own(adapter)
        found.pop(self.base_name, None)
        return [self._base, *(found[name] for name in sorted(found))]

    def _candidates(self) -> list[str]:
        if self._shared is None or not self._shared.is_dir():
            return []
        return [path.name for path in self._shared.iterdir() if os.path.lexists(path / CONFIG)]

    def _find_shared(self, name: str) -> ModelRecord | None:
        """Return a shared adapter by the folder it really is in; None if it may not be used."""
        if self._shared is None or not _SHARED.fullmatch(name):
            return None
        folder = f"{self._shared}/{name}"
        try:
            found = os.lstat(folder)
            kinds = {os.lstat(f"{folder}/{file}").st_mode for file in (CONFIG, WEIGHTS)}
        except OSError:  # not there, not to be read, or links that lead in a circle
            return None
        # Every request comes here, and without links there is nowhere else that this could lead.
        if any(map(stat.S_ISLNK, {found.st_mode, *kinds})):
            return self._find_linked(name)
        if not all(map(stat.S_ISREG, kinds)):
            return None
        return ModelRecord(name, "shared", int(found.st_mtime), Path(folder))

    def _find_linked(self, name: str) -> ModelRecord | None:
        """Return a shared adapter some of which is links; None if one leads out of the folder."""
        assert self._shared is not None
        # `Path.resolve` fails on links that lead in a circle, and `Path.is_file` on folders that
        # may not be read.
        folder = os.path.realpath(self._shared / name)
        for file in (f"{folder}/{CONFIG}", f"{folder}/{WEIGHTS}"):
            # A link must not show what lies outside of the folder.
            inside = Path(os.path.realpath(file)).is_relative_to(self._shared)
            if not inside or not os.path.isfile(file):
                return None
        try:
            changed = int(os.stat(folder).st_mtime)
        except FileNotFoundError:  # removed just now
            return None
        return ModelRecord(name, "shared", changed, Path(folder))

    def _find_on_hub(self, name: str, fetch: bool) -> ModelRecord | None:
        folder = None if self._hub is None else self._hub.find(name, fetch)
        if folder is None:
            return None
        try:
            changed = int(folder.stat().st_mtime)
        except OSError:  # removed from the hub's cache just now
            return None
        return ModelRecord(name, "shared", changed, folder)

    def _warn(self) -> None:
        for name in self._candidates():
            if self._find_shared(name) is None:
                LOG.warning(
                    "adapter %r is not served: expected a name of letters, digits, dots, dashes "
                    "and underscores, and %s beside %s, both inside of %s",
                    name,
                    WEIGHTS,
                    CONFIG,
                    self._shared,
                )
            elif name == self.base_name:
                LOG.warning("adapter %r is not served: it is named like the base model", name)


def trained_name(base_name: str, suffix: str | None, job_id: str) -> str:
    """Return the name of the adapter that a job trains, as OpenAI's API forms it.

    Args:
        base_name: the base model's.
        suffix: what the user wants in the name; "reft" if there is none.
        job_id: of the job.

    Raises:
        BadRequest: a suffix that cannot be in a name.
    """
    suffix = "reft" if suffix is None else suffix
    if not _SUFFIX.fullmatch(suffix):
        raise BadRequest(
            f"suffix {_clipped(suffix)!r}: expected up to 64 letters, digits, dots, dashes and "
            "underscores, the first a letter or a digit",
            "suffix",
        )
    return f"ft:{base_name}:{suffix}:{job_id.removeprefix('ftjob-')[:_JOB_CHARACTERS]}"


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and is_storable(text) and text.isprintable()


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"


def _own(adapter: AdapterRecord) -> ModelRecord:
    return ModelRecord(
        adapter.name, "own", adapter.created_at, Path(adapter.folder), adapter.job_id
    )
