"""Read models: how far each is, and making one anew, beside the one that serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from starlette.responses import RedirectResponse, Response

from eventlog.errors import ConfigurationError, EventLogError, InvalidEvent
from eventlog.logs import get_logger
from projections.building.rebuilding import begin, cancel, drop, rollback
from projections.projecting.status import ModelStatus, PartitionStatus
from projections.projection import Projection
from projections.registry import find_projection
from service.http.dashboard import words
from service.http.dashboard.page import Ask, not_found
from service.wiring import Service

ACTION_WAIT_S = 3.0
"""What takes longer goes on behind the page, which shows how far it is."""
BEHIND_MS = 60_000

_log = get_logger("dashboard")


class Building(NamedTuple):
    """A build in the making."""

    version: int
    folded_count: int
    entry_count: int
    rate_per_s: float | None
    left_ms: float | None


class ModelRow(NamedTuple):
    """A read model."""

    name: str
    version: int | None
    lag_count: int
    previous_version: int | None
    building: Building | None
    is_known: bool
    """Whether this service can build it."""
    partitions: Sequence[tuple[int, str, int]]
    """Number, checkpoint, lag."""


class ModelsPage(NamedTuple):
    """The page."""

    rows: Sequence[ModelRow]
    sentence: str
    oldest_ms: int
    owner_count: int
    rate_per_s: float
    errors: Sequence[tuple[int, str]]


class Rates:
    """How fast builds go, by what was folded between two looks."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int, float | None]] = {}

    def of(self, name: str, folded: int, now_s: float) -> float | None:
        """Return entries per second, None before there are two looks."""
        before = self._seen.get(name)
        if before is None or folded < before[1]:
            self._seen[name] = (now_s, folded, None)
            return None
        since_s, was, rate = before
        if now_s - since_s >= 1.0:
            rate = (folded - was) / (now_s - since_s)
            self._seen[name] = (now_s, folded, rate)
        return rate


def page_of(
    statuses: Sequence[PartitionStatus], known: Sequence[Projection], rates: Rates, now_s: float
) -> ModelsPage:
    """Return the page, given how far the partitions are."""
    by_name: dict[str, list[tuple[PartitionStatus, ModelStatus]]] = {}
    for status in statuses:
        for model in status.models:
            by_name.setdefault(model.name, []).append((status, model))
    names = {each.name for each in known}
    rows = [
        _row(name, found, name in names, rates, now_s) for name, found in sorted(by_name.items())
    ]
    oldest_ms = max((each.oldest_age_ms for each in statuses), default=0)
    owners = {each.owner for each in statuses if each.owner}
    errors = [(each.partition, each.last_error) for each in statuses if each.last_error]
    lag = sum(each.lag_count for each in statuses)
    return ModelsPage(
        rows,
        sentence(rows, lag, oldest_ms, len(owners), len(errors)),
        oldest_ms,
        len(owners),
        sum(each.rate_per_s for each in statuses),
        errors,
    )


def sentence(
    rows: Sequence[ModelRow], lag: int, oldest_ms: int, owner_count: int, error_count: int
) -> str:
    """Return how things are. Pure."""
    if building := [row for row in rows if row.building is not None]:
        first = building[0]
        assert first.building is not None
        beside = f"beside v{first.version}. Readers still see v{first.version}." if first.version else (
            "for the first time."
        )  # fmt: skip
        more = f" {len(building) - 1} more are being built." if len(building) > 1 else ""
        return f"Rebuilding {first.name} v{first.building.version} {beside}{more}"
    if error_count:
        return f"{words.count(error_count, 'partition')} cannot be projected; the errors are below."
    if not owner_count:
        return "No projector runs. Reads stay right, and slow down as the log grows: start `eventlog up`."
    if oldest_ms > BEHIND_MS:
        return f"{words.count(lag, 'entry', 'entries')} behind, the oldest for {words.lasting(oldest_ms)}."
    return f"All {len(rows)} read models are up to date."


def _row(
    name: str,
    found: Sequence[tuple[PartitionStatus, ModelStatus]],
    is_known: bool,
    rates: Rates,
    now_s: float,
) -> ModelRow:
    models = [model for _, model in found]
    building = None
    built = [(s.head.n, m) for s, m in found if m.building_version is not None]
    if built:
        entries = sum(head for head, _ in built)
        folded = sum(m.building_position.n for _, m in built if m.building_position is not None)
        rate = rates.of(name, folded, now_s)
        left_ms = (entries - folded) / rate * 1000 if rate else None
        version = max(m.building_version or 0 for _, m in built)
        building = Building(version, folded, entries, rate, left_ms)
    return ModelRow(
        name,
        max((m.version for m in models if m.version is not None), default=None),
        sum(m.lag_count for m in models),
        max((m.previous_version for m in models if m.previous_version is not None), default=None),
        building,
        is_known,
        [(s.partition, str(m.position), m.lag_count) for s, m in found],
    )


class ProjectionsPage:
    """The page, and what its buttons do."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, ask: Ask) -> Response:
        """Return the page."""
        statuses = await ask.service.projector.status()
        page = page_of(statuses, ask.service.projections, self._rates, time.monotonic())
        return await ask.page("projections.html", page=page, done=ask.query("done"))

    async def rebuild(self, ask: Ask) -> Response:
        """Begin a rebuild; the projectors of `eventlog up` do it."""
        service, chosen = ask.service, _known(ask.service, ask.path("name"))
        await begin(service.log, chosen, past=service.past)
        return _back("rebuild")

    async def roll_back(self, ask: Ask) -> Response:
        """Let serve what served before."""
        service, chosen = ask.service, _known(ask.service, ask.path("name"))
        await self._behind(
            ask, "rollback", lambda: rollback(service.log, chosen, past=service.past)
        )
        return _back("rollback")

    async def cancel(self, ask: Ask) -> Response:
        """Give up a build in the making."""
        log, name = ask.service.log, ask.path("name")
        await self._behind(ask, "cancel", lambda: cancel(log, name))
        return _back("cancel")

    async def drop(self, ask: Ask) -> Response:
        """Delete what could be rolled back to."""
        log, name = ask.service.log, ask.path("name")
        await self._behind(ask, "drop", lambda: drop(log, name))
        return _back("drop")

    async def _behind(self, ask: Ask, verb: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do the work; where it takes long it goes on behind the page."""
        reason = ask.form.get("reason")
        if not reason:
            raise InvalidEvent("no reason was given.", remedy="Go back and say why, for later.")
        _log.info(f"projection_{verb}", projection=ask.path("name"), reason=reason)
        task: asyncio.Task[Any] = asyncio.ensure_future(work())
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=ACTION_WAIT_S)
        if task.done():
            task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EventLogError):
            _log.warning("projection_change_failed", error=str(error))


def _known(service: Service, name: str) -> Projection:
    try:
        return find_projection(service.projections, name)
    except ConfigurationError as error:
        raise not_found(error.message, error.remedy or "") from None


def _back(done: str) -> Response:
    return RedirectResponse(f"/projections?done={done}", 303)
