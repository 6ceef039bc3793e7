"""What every request passes first: who it is from, whether it may come now, how long it may be.

The keys are checked before a byte of the body is read. What comes out is logged and counted here.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reftune.server.api.authentication import Authenticator, Identity
from reftune.server.api.bodies import limited, too_long
from reftune.server.api.errors import TooMany, error_response, internal_error
from reftune.server.api.lifecycle import Lifecycle
from reftune.server.api.metrics import Metrics
from reftune.server.api.rates import Rates
from reftune.server.errors import ServerError, TooLarge, Unavailable
from reftune.server.logs import describe, tell
from reftune.server.settings import Settings

GUARDED = ("/v1/", "/metrics")
STOPPING = "the server is stopping; try again in a moment"
METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS")
LEFT = 499  # what nginx logs for a client that went away


@dataclass
class _Passage:
    """What is noted about a request on its way."""

    began: float
    id: str
    status: int | None = None
    identity: Identity | None = None


class Gate:
    """A layer around the app."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        keys: Authenticator,
        metrics: Metrics,
        lifecycle: Lifecycle,
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._rates = Rates(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(time.perf_counter(), f"req_{uuid.uuid4().hex}")
        scope["began"], scope["facts"] = passage.began, {}
        answer = _noting(send, passage)
        guarded = scope["path"].startswith(GUARDED)
        self._lifecycle.active += guarded
        try:
            if guarded:
                await self._admit(scope, passage)
            body = limited(receive, self._most_bytes(scope), self._settings.receive_seconds)
            await self._app(scope, body, answer)
        except ServerError as error:
            await error_response(error)(scope, receive, answer)
        except Exception as error:
            tell("error", 40, request=passage.id, path=_route(scope), **describe(error))
            if passage.status is None:
                await error_response(internal_error())(scope, receive, answer)
        finally:
            self._lifecycle.active -= guarded
            self._note(scope, passage)

    async def _admit(self, scope: Scope, passage: _Passage) -> None:
        headers = Headers(scope=scope)
        identity = await anyio.to_thread.run_sync(self._keys.identify, headers)
        scope["identity"] = passage.identity = identity
        if self._lifecycle.draining and scope["path"] != "/metrics":
            raise Unavailable(STOPPING, code="stopping")
        wait = self._rates.take(identity.key) if identity.key else None
        if wait is not None:
            raise TooMany(
                f"this key may send {self._rates.per_minute} requests a minute; "
                f"try again in {wait} seconds",
                "rate_limit_exceeded",
                wait,
            )
        said = headers.get("content-length", "")
        if said.isdigit() and int(said) > self._most_bytes(scope):
            raise TooLarge(too_long(self._most_bytes(scope)))

    def _most_bytes(self, scope: Scope) -> int:
        upload = scope["path"] == "/v1/files"
        # The form around a file takes a few bytes too.
        return self._settings.max_file_bytes + 65_536 if upload else self._settings.max_body_bytes

    def _note(self, scope: Scope, passage: _Passage) -> None:
        route, seconds = _route(scope), time.perf_counter() - passage.began
        status = passage.status or LEFT
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        who = passage.identity
        facts: dict[str, Any] = {
            "request": passage.id,
            "method": method,
            "path": route,
            "status": status,
            "seconds": round(seconds, 4),
            "tenant": who.tenant if who else None,
            "key": who.key if who else None,
            **scope["facts"],
        }
        tell("request", **facts)


def _noting(send: Send, passage: _Passage) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            passage.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = passage.id
        await send(message)

    return noting


def _route(scope: Scope) -> str:
    """Return the path's pattern, not the path: the same for all ids, and no text of a user."""
    route = scope.get("route")
    return route.path if route else "unknown"
