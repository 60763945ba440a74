"""What became of bridge events that nobody recorded: counted, and told without flooding the log."""

from __future__ import annotations

import threading

from eventlog.clock import Clock
from eventlog.logs import get_logger

TELL_EVERY_S = 10.0
"""Of one reason a warning comes at once, and the next no sooner than this."""

SHOWN_CHARACTERS = 200

_log = get_logger("bridge")


class _Untold:
    """Drops for one reason since its last warning."""

    def __init__(self) -> None:
        self.count = 0
        self.last: dict[str, str] = {}
        self.told_at_s: float | None = None


class EventDrops:
    """Counts drops by reason, from any thread, and warns of them as `bridge_events_dropped`."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        """Drops so far, whatever the reason."""
        self._clock = clock
        # Re-entrant, as a finalizer or a signal handler may drop one in the middle of another.
        self._lock = threading.RLock()
        self._by_reason: dict[str, _Untold] = {}

    def add(self, reason: str, count: int = 1, **last: object) -> None:
        """Count drops; `last` describes the last of them in the warning."""
        with self._lock:
            self.count += count
            untold = self._by_reason.setdefault(reason, _Untold())
            untold.count += count
            untold.last = {key: _shown(value) for key, value in last.items()}
        self.tell()

    def tell(self, *, at_once: bool = False) -> None:
        """Warn of what was not told yet: what is due, or everything."""
        for reason, untold in list(self._by_reason.items()):
            with self._lock:
                now_s = self._clock.monotonic_s()
                told_at_s, count = untold.told_at_s, untold.count
                is_due = told_at_s is None or now_s - told_at_s >= TELL_EVERY_S
                if not count or not (is_due or at_once):
                    continue
                untold.told_at_s, untold.count = now_s, 0
            # Outside the lock: a logging handler is free to record a bridge event itself.
            _log.warning(
                "bridge_events_dropped",
                reason=reason,
                count=count,
                dropped_event_count=self.count,
                **untold.last,
            )


def _shown(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - an object of the caller's
        text = type(value).__name__
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
