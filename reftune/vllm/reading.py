"""Adapters read for an engine of vLLM, held against the model by its config alone."""

import weakref
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from reftune.config import ReftConfig
from reftune.serving.adapters import AdapterCache, ServedAdapter
from reftune.serving.errors import AdapterError
from reftune.sites import Site, find_sites
from reftune.tuner import resolve
from reftune.vllm.settings import VllmSettings
from reftune.vllm.ticket import Ticket


class AdapterReader:
    """Reads adapters; front end and workers have one each, and must agree.

    Args:
        config: of the model, as transformers has it.
        settings: of the engine.

    Raises:
        ValueError: the model is no causal language model of transformers, or has no such layers.
    """

    def __init__(self, config: Any, settings: VllmSettings) -> None:
        with torch.device("meta"):  # shapes are all that is asked of it
            model = AutoModelForCausalLM.from_config(config)
        hooked = ReftConfig(layers=settings.layers)
        resolve(model, hooked)
        self.sites: list[Site] = find_sites(model, hooked)
        self._cache = AdapterCache(model, settings.adapter_bytes)
        # Of requests that run: their folders may have been replaced since.
        self._known: weakref.WeakValueDictionary[str, ServedAdapter]
        self._known = weakref.WeakValueDictionary()

    def read(self, folder: Path) -> ServedAdapter:
        """Return the adapter that a folder holds now.

        Raises:
            AdapterError: there is none, or it edits what is not hooked.
        """
        adapter = self._cache.get(folder)
        foreign = [site.module for site in adapter.edits if site not in self.sites]
        if foreign:
            raise AdapterError(
                f'adapter "{folder.name}" edits {", ".join(foreign)}: expected the outputs of '
                f"layers alone, out of {', '.join(site.module for site in self.sites)}"
            )
        self.know(adapter)
        return adapter

    def know(self, adapter: ServedAdapter) -> None:
        """Have an adapter that is in no folder found, for as long as somebody has it."""
        self._known[adapter.digest] = adapter

    def find(self, ticket: Ticket) -> ServedAdapter:
        """Return the adapter of an admitted request.

        Raises:
            AdapterError: its folder was replaced or removed since it was admitted.
        """
        known = self._known.get(ticket.digest)
        if known is not None:
            return known
        adapter = self.read(Path(ticket.folder))
        if adapter.digest != ticket.digest:
            raise AdapterError(
                f'adapter "{ticket.folder}" has changed since a request for it was admitted: '
                "expected a folder that stays as it is; put a new version into a new one"
            )
        return adapter

    def forget(self, folder: Path) -> None:
        """Keep nothing of a folder that no request has."""
        self._cache.forget(folder)
