"""Runs the app on uvicorn until it is told to stop, and then lets running answers finish."""

import socket
import time
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from reftune.server.api.lifecycle import Lifecycle
from reftune.server.connections import PatientConnection
from reftune.server.logs import tell
from reftune.server.settings import Settings


class GracefulServer(uvicorn.Server):
    """A server that goes on listening while it finishes its answers, and refuses new ones.

    The first signal drains; the second one, or the end of the time for it, ends what still runs.
    uvicorn alone would close its port at once, so that new requests would get no answer at all.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._seconds = seconds
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: stop, or, if that was asked for already, stop now."""
        if self._lifecycle.draining:
            self.should_exit = self.force_exit = True
        self._lifecycle.drain()

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether it is time to end."""
        if self._lifecycle.draining and self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
            tell("stopping", active=self._lifecycle.active)
        late = self._deadline is not None and time.monotonic() > self._deadline
        if self._lifecycle.is_over or late:
            self.should_exit = True
        return await super().on_tick(counter)


def make_server(app: FastAPI, settings: Settings, lifecycle: Lifecycle) -> GracefulServer:
    """Make the server; `run` of it returns when all is over."""
    config = uvicorn.Config(
        app,
        ws="none",  # a connection that was upgraded would be closed as one without a request
        http=cast(Any, partial(PatientConnection, seconds=settings.receive_seconds)),
        host=settings.host,
        port=settings.port,
        log_config=None,  # the logs are ours
        access_log=False,
        server_header=False,
        lifespan="off",
        # Answers had their time before; what is left then is cut off.
        timeout_graceful_shutdown=1,
    )
    return GracefulServer(config, lifecycle, settings.stop_seconds)


def listening_socket(host: str, port: int) -> socket.socket:
    """Take a port, before anything that takes long; nobody can connect yet.

    Raises:
        OSError: the name leads nowhere, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise OSError(f'host "{host}", port {port}: {error}') from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise OSError(f'host "{host}", port {port}: {error.strerror}') from error
    return taken
