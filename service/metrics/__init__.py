"""Numbers of a log for Prometheus: `Metrics(log)` renders them; `families` says what each means."""

from service.metrics.metrics import CONTENT_TYPE, Metrics, render_away

__all__ = ["CONTENT_TYPE", "Metrics", "render_away"]
