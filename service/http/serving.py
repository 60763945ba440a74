"""Running the application: a socket, and uvicorn in this event loop until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Iterator
from functools import partial
from typing import cast

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


FILES_WANTED = 65_536
"""A connection is a file; what a process may open by default (1,024) slow clients could use up."""
RESERVED_FILES = 256
"""That connections leave for the server, the archive and the rest."""


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
    allowed = max(RESERVED_FILES, allow_files() - RESERVED_FILES)
    most = min(allowed, app.state.shared.limits.connection_count)
    config = uvicorn.Config(
        app,
        http=cast("type[Protocol]", partial(Protocol, most_connections=most)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what clients do wrong is no news
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


def allow_files() -> int:
    """Return how many files this process may open, having asked for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return FILES_WANTED if soft == resource.RLIM_INFINITY else soft


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
