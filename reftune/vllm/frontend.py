"""The front end's part: which adapter a request asks for, and the ticket that it gets.

A request names one in one of two ways: as vLLM's `LoRARequest`, which vLLM's own server makes of a
model name, or as `extra_args={"reft": NAME}` (`vllm_xargs` over HTTP), for an adapter in the folder
of the engine's settings. Both are a ticket from here on.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reftune.vllm.reading import AdapterReader
from reftune.vllm.settings import VllmSettings, settings_of
from reftune.vllm.ticket import ASKED, Ticket, refuse_forged

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Frontend:
    """Admits the requests of one engine.

    Args:
        config: its `VllmConfig`.

    Raises:
        ValueError: adapters are set up by half, or the model is not one that can be edited.
    """

    def __init__(self, config: Any) -> None:
        self.settings = settings_of(config)
        self._reader: AdapterReader | None = None
        if self.settings is not None:
            self._reader = AdapterReader(config.model_config.hf_config, self.settings)

    @property
    def is_on(self) -> bool:
        """Whether the engine serves adapters."""
        return self._reader is not None

    def folder(self, lora: Any, extra_args: Mapping[str, Any] | None) -> Path | None:
        """Return the folder of the adapter that a request asks for, `None` if it asks for none.

        Args:
            lora: its `LoRARequest`, or `None`.
            extra_args: of its `SamplingParams`.

        Raises:
            ValueError: it asks for two, for none that is there, or the engine serves none.
        """
        asked = (extra_args or {}).get(ASKED)
        if asked is None and (lora is None or not self.is_on):
            return None
        if self.settings is None:
            raise ValueError(f"{ASKED}={asked!r:.100}: expected an engine that serves adapters")
        if asked is None:
            return Path(lora.lora_path)
        if lora is not None:
            raise ValueError(
                f"{ASKED}={asked!r:.100} for the model {lora.lora_name!r}: expected one adapter"
            )
        return self.named(asked, self.settings)

    @staticmethod
    def named(name: Any, settings: VllmSettings) -> Path:
        """Return the folder of an adapter among those of the settings.

        Raises:
            ValueError: the name cannot be one, or there is no folder of adapters.
        """
        if settings.adapters is None:
            raise ValueError(
                f"{ASKED}={name!r:.100}: expected an engine with a folder of adapters, "
                'as {"adapters": FOLDER} in its settings'
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{ASKED}={name!r:.100}: expected the name of an adapter, of up to 128 letters, "
                "digits, dots, dashes and underscores"
            )
        shared = Path(settings.adapters).resolve()
        folder = shared / name
        if not folder.is_dir() or not folder.resolve().is_relative_to(shared):
            raise ValueError(f"{ASKED}={name!r:.100}: expected the name of an adapter")
        return folder.resolve()

    def check(self, folder: Path) -> None:
        """Raise AdapterError if an adapter could not be served."""
        self._served().read(folder)

    def forget(self, folder: Path) -> None:
        """Keep nothing of a folder."""
        self._served().forget(folder)

    def admit(self, folder: Path, request: Any) -> None:
        """Give a request its ticket, and the salt that keeps its blocks apart.

        Args:
            folder: of its adapter.
            request: an `EngineCoreRequest`, changed in place.

        Raises:
            ValueError: the adapter cannot be served, or edits of this request would be wrong.
        """
        params, prompt = request.sampling_params, request.prompt_token_ids
        if params is None or not prompt or request.prompt_embeds is not None or request.resumable:
            raise ValueError(
                f'adapter "{folder.name}": expected a prompt of tokens alone that is whole, and '
                "text to be generated"
            )
        adapter = self._served().read(folder)
        ticket = Ticket(str(folder), adapter.digest, len(prompt))
        params.extra_args = {**(params.extra_args or {}), ASKED: ticket.written()}
        refuse_forged(request.cache_salt)
        request.cache_salt = ticket.salt(request.cache_salt)

    def _served(self) -> AdapterReader:
        assert self._reader is not None  # otherwise nobody has a folder
        return self._reader


def pass_plain(request: Any) -> None:
    """Let a request without an adapter through.

    Raises:
        ValueError: it claims a salt of ours.
    """
    refuse_forged(request.cache_salt)
