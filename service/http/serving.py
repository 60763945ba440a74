"""Running the application: a socket, and uvicorn in this event loop until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from eventlog.errors import ConfigurationError
from eventlog.settings import Settings
from service.http.access import require_private
from service.http.protocol import Protocol
from service.http.tokens import Tokens

BACKLOG = 1024
KEEP_ALIVE_S = 15
END_WITHIN_S = 5
"""What runs at the end may go on for so long."""


class PortTaken(ConfigurationError):
    """Somebody else listens on the port."""


def listen(settings: Settings, tokens: Tokens) -> socket.socket:
    """Return the socket that the settings name. Raises ConfigurationError, PortTaken."""
    host, port = settings.http_host, settings.http_port
    require_private(host, tokens)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise (PortTaken if taken else ConfigurationError)(
            f"cannot listen on {host}:{port}: {error.strerror or error}.",
            remedy="Choose another with --port, or EVENTLOG_HTTP_PORT.",
        ) from None
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """Return the address to type into a browser."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(app: Starlette, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; requests that run may end first, for a few seconds."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=END_WITHIN_S,
        backlog=BACKLOG,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        app.state.shared.stop()
        server.should_exit = True
        try:
            await serving
        finally:
            await app.state.shared.close()


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
