"""Idle sessions go dormant, by event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from eventlog.errors import VersionConflict
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.vocabulary import SessionTransitioned

SWEEP_LIMIT = 500
"""Sessions looked at in one go; the next go takes the next ones."""

_log = get_logger("sweeper")


class IdleSession(NamedTuple):
    """An active session that nobody has touched; `version` is what it was when it was found."""

    id: str
    conversation: str
    version: int


FindIdle = Callable[[int, int], Awaitable[Sequence[IdleSession]]]
"""Takes a time in µs and a limit; returns active sessions last touched before it, oldest first."""


class IdleSweeper:
    """Puts sessions to sleep that were idle for longer than `session_ttl_s`.

    Whoever touches a session in the same moment wins: the transition carries the version at which
    the session was seen idle.
    """

    def __init__(self, log: EventLog, find_idle: FindIdle) -> None:
        self._log = log
        self._find_idle = find_idle

    async def run_once(self) -> int:
        """Return how many sessions became dormant."""
        ttl_us = self._log.settings.session_ttl_s * 1_000_000
        idle = await self._find_idle(self._log.clock.now_us() - ttl_us, SWEEP_LIMIT)
        return sum(await asyncio.gather(*(self._put_to_sleep(session) for session in idle)))

    async def _put_to_sleep(self, session: IdleSession) -> bool:
        event = SessionTransitioned(
            conversation=session.conversation,
            session=session.id,
            id=f"sweeper:{session.id}:{session.version}",
            occurred_at=self._log.clock.now_us(),
            from_status="active",
            to_status="dormant",
            reason="idle",
        )
        try:
            result = await self._log.append(event, expected_version=session.version)
        except VersionConflict:
            _log.debug("session_woke_up", session=session.id)
            return False
        return not result.duplicate
