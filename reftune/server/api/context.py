"""What the endpoints work with, made once per app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from transformers import PreTrainedTokenizerBase

from reftune.server.api.lifecycle import Lifecycle
from reftune.server.api.metrics import Metrics
from reftune.server.database.store import Store
from reftune.server.files import UploadedFiles
from reftune.server.registry import Registry
from reftune.server.settings import Settings
from reftune.server.token_bytes import TokenBytes
from reftune.serving.engine import Engine


@dataclass(frozen=True)
class Context:
    """The parts of the server.

    Attributes:
        fingerprint: of everything that decides what a seed gives, but for the adapters.
        began: when the server did, in seconds since 1970.
    """

    settings: Settings
    engine: Engine
    store: Store
    registry: Registry
    files: UploadedFiles
    metrics: Metrics
    lifecycle: Lifecycle
    token_bytes: TokenBytes
    fingerprint: str
    began: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The engine's."""
        return self.engine.tokenizer


def _context_of(request: Request) -> Context:
    return request.app.state.context


Parts = Annotated[Context, Depends(_context_of)]  # the type of an endpoint's parameter
