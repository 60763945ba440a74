"""The dashboard's pages: what each costs the server at so many events, beside the same at few.

A page is asked for as the application serves it, from request to last byte, with nothing kept from
the look before; all but the latest of the log is archived. What a page costs must not grow with the log.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from analytics import Archiver, DirectoryStorage
from bench.events import chat_events, fill
from bench.row import Row
from eventlog.collector import spared_collector
from eventlog.settings import Settings
from projections.projecting.projector import Projector
from service.http.app import new_app
from service.http.dashboard.routes import pages
from service.http.tokens import Tokens
from service.wiring import Service, open_service

ROUNDS = 9
LIVE_SHARE = 50
"""One in so many more is not archived yet."""
FEW_EVENTS = 10_000
MOST_OF_FEW = 3.0
PATHS = ("/", "/conversations", "/sessions", "/dead-letters", "/projections", "/archive")


async def fetched_s(service: Service, path: str) -> float:
    """Return how long the application takes for a page that nobody has asked for yet."""
    app = new_app(service, tokens=Tokens(), pages=pages())
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": [(b"host", b"localhost")], "scheme": "http",
             "http_version": "1.1", "server": ("localhost", 80)}  # fmt: skip
    started_s = time.perf_counter()
    await app(scope, receive, send)
    elapsed_s = time.perf_counter() - started_s
    assert status == 200, path
    return elapsed_s


async def filled(stack: AsyncExitStack, folder: Path, event_count: int) -> Service:
    """Return a service on a log of so many events, projected, and archived but for the latest."""
    settings = Settings(data_dir=str(folder))
    service = await stack.enter_async_context(open_service(settings))
    log = service.log
    await fill(log, event_count)
    async with Archiver(log, DirectoryStorage(Path(settings.archive_place))) as archiver:
        await archiver.archive_until(await log.heads())
    await log.append(list(chat_events(event_count // LIVE_SHARE, seed=2)))
    with spared_collector():
        await Projector(log).run_until_caught_up()
    return service


async def measure(event_count: int) -> list[Row]:
    """Return a row for each page, the two logs asked in turn."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        many = await filled(stack, root / "many", event_count)
        few = await filled(stack, root / "few", min(FEW_EVENTS, event_count))
        return [await _row(many, few, path) for path in PATHS]


async def _row(many: Service, few: Service, path: str) -> Row:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 2):
        for service, own in zip((many, few), times, strict=True):
            elapsed_s = await fetched_s(service, path)
            if number >= 2:  # the first ones prepare connections and templates
                own.append(elapsed_s)
    at_many, at_few = median(times[0]), median(times[1])
    print(f"  {path}: {at_many * 1000:.0f} ms, of few {at_few * 1000:.0f} ms", file=sys.stderr)
    name = f"page {path}"
    return Row(name, 1 / at_many, f"of {FEW_EVENTS:,} events", 1 / at_few, at_many / at_few,
               MOST_OF_FEW, is_cost=True)  # fmt: skip


def run(event_count: int) -> list[Row]:
    """Return the rows."""
    return asyncio.run(measure(event_count))
