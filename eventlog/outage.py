"""What is known of the server's absence, and the log lines that say so, each once."""

from __future__ import annotations

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.logs import get_logger
from eventlog.repeated import Repeated

_log = get_logger("log")


class Outage:
    """Begins with a call that failed for want of the server, ends with one that did not.

    While `is_held`, what was put aside meanwhile is not in the log yet: an answer does not end it.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, *, has_spool: bool = False) -> None:
        self._clock = clock
        self._failures = Repeated(clock)
        self._has_spool = has_spool
        self.is_on = False
        self.is_held = False
        self.is_away = False
        """Whether the last call failed."""
        self.calm_s = 0.0
        """How long ago the last failure must be for an answer to end it. Of a cluster's nodes one may be
        away while the others answer; told of each answer, it would end and begin all the time."""
        self._failed_s = clock.monotonic_s()

    def failed(self, function: str, error: Exception) -> None:
        """Note a failed call; `error` is one of ours, hence without credentials."""
        self.is_away = True
        self._failed_s = self._clock.monotonic_s()
        if (count := self._failures.told(function)) is not None:
            _log.warning("redis_error", function=function, error=str(error), count=count)
        if not self.is_on:
            self.is_on = True
            _log.warning("redis_degraded_mode", is_spooling=self._has_spool)

    def answered(self) -> None:
        """Note that the server answered."""
        self.is_away = False
        is_calm = self._clock.monotonic_s() - self._failed_s >= self.calm_s
        if self.is_on and not self.is_held and is_calm:
            self.ended(0)

    def ended(self, spooled_count: int) -> None:
        """Note that all is as before; so many spooled events went into the log meanwhile."""
        self.is_held = False
        if self.is_on:
            self.is_on = False
            self._failures = Repeated(self._clock)
            _log.warning("redis_recovered", spooled_count=spooled_count)
