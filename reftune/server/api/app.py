"""The app: all endpoints around one engine, one store and one registry."""

import hashlib
import time
from importlib.metadata import version

from fastapi import FastAPI

from reftune.server.api import chat, completions, files, health, jobs, models, page
from reftune.server.api.authentication import Authenticator
from reftune.server.api.context import Context
from reftune.server.api.errors import add_error_handlers
from reftune.server.api.gate import Gate
from reftune.server.api.lifecycle import Lifecycle
from reftune.server.api.metrics import Metrics
from reftune.server.database.store import Store
from reftune.server.files import UploadedFiles
from reftune.server.registry import Registry
from reftune.server.settings import Settings
from reftune.server.token_bytes import TokenBytes
from reftune.serving.engine import Engine

ROUTERS = (chat, completions, files, health, jobs, models, page)


def create_app(
    settings: Settings,
    engine: Engine,
    store: Store,
    registry: Registry,
    lifecycle: Lifecycle | None = None,
) -> FastAPI:
    """Make the app; engine and store are started and stopped by the caller.

    Args:
        settings: limits, and where files are kept.
        engine: that answers.
        store: of keys, files and jobs.
        registry: of model names.
        lifecycle: shared with who stops the server; one of the app's own if it is `None`.
    """
    metrics, lifecycle = Metrics(engine), lifecycle or Lifecycle()
    # No pages of documentation: they load scripts from elsewhere.
    app = FastAPI(
        title="reftune", version=version("reftune"), openapi_url=None, redirect_slashes=False
    )
    app.state.context = Context(
        settings=settings,
        engine=engine,
        store=store,
        registry=registry,
        files=UploadedFiles(store, settings.files),
        metrics=metrics,
        lifecycle=lifecycle,
        token_bytes=TokenBytes(engine.tokenizer),
        fingerprint=_fingerprint(engine.model_name),
        began=int(time.time()),
    )
    for module in ROUTERS:
        app.include_router(module.router)
    add_error_handlers(app)
    app.add_middleware(
        Gate,
        settings=settings,
        keys=Authenticator(store, settings.is_loopback),
        metrics=metrics,
        lifecycle=lifecycle,
    )
    return app


def _fingerprint(model: str) -> str:
    parts = [model, *(f"{name} {version(name)}" for name in ("reftune", "torch", "transformers"))]
    return "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
