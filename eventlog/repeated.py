"""What happens over and over, told at once and then in a while with a count: a log is no flood."""

from __future__ import annotations

from eventlog.clock import Clock

TELL_EVERY_S = 10.0


class Repeated:
    """Counts what happens by name, and says when to tell of it again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold: dict[str, tuple[int, float]] = {}

    def told(self, name: str) -> int | None:
        """Count one more; return how many there were since it was last told, None if it is not time."""
        now_s = self._clock.monotonic_s()
        count, told_at_s = self._untold.get(name, (0, float("-inf")))
        if now_s - told_at_s < TELL_EVERY_S:
            self._untold[name] = count + 1, told_at_s
            return None
        self._untold[name] = 0, now_s
        return count + 1
