"""What this process has answered and appended, counted; the least that `/metrics` tells."""

from __future__ import annotations

from collections import Counter, defaultdict

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counting:
    """Counts of one application."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By method, route and status."""
        self.request_s: defaultdict[tuple[str, str], float] = defaultdict(float)
        """Seconds spent, by method and route."""
        self.appended: Counter[str] = Counter()
        """Events by outcome: recorded, duplicate, spooled."""
        self.stream_count = 0
        """Open streams."""
        self.dropped_stream_count = 0
        """Streams ended because their readers were slow."""

    def observe(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count a request that was answered."""
        self.requests[method, route, status] += 1
        self.request_s[method, route] += elapsed_s

    def render(self) -> str:
        """Return the counts as Prometheus's text."""
        lines = [
            "# TYPE eventlog_http_requests_total counter",
        ]
        for (method, route, status), count in sorted(self.requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"eventlog_http_requests_total{{{labels}}} {count}")
        lines.append("# TYPE eventlog_http_request_seconds_total counter")
        for (method, route), seconds in sorted(self.request_s.items()):
            labels = f'method="{method}",route="{route}"'
            lines.append(f"eventlog_http_request_seconds_total{{{labels}}} {seconds:.6f}")
        lines.append("# TYPE eventlog_http_appended_events_total counter")
        for outcome, count in sorted(self.appended.items()):
            lines.append(f'eventlog_http_appended_events_total{{outcome="{outcome}"}} {count}')
        lines += [
            "# TYPE eventlog_http_streams gauge",
            f"eventlog_http_streams {self.stream_count}",
            "# TYPE eventlog_http_streams_dropped_total counter",
            f"eventlog_http_streams_dropped_total {self.dropped_stream_count}",
        ]
        return "\n".join(lines) + "\n"
