"""What the generated file itself says, read line by line: an oracle beside the generator's truth."""

from __future__ import annotations

import json
from collections import Counter, deque
from pathlib import Path
from typing import Any

LAST = 20


class SourceFacts:
    """Of the busiest chats the last messages; of the deliveries how often each failed."""

    def __init__(self, source: Path, chats: list[str]) -> None:
        self.last: dict[str, deque[tuple[str, str]]] = {c: deque(maxlen=LAST) for c in chats}
        """(id, text), oldest first, in the order of the file."""
        self.messages: Counter[str] = Counter()
        """By busiest chat."""
        self.failures: Counter[str] = Counter()
        """By delivery."""
        self.permanent = 0
        self._seen: set[str] = set()
        with source.open(encoding="utf-8") as lines:
            for line in lines:
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        chat, kind = event["chat"], event["kind"]
        is_message = kind in ("msg.in", "msg.out")
        if not (kind == "delivery.failed" or (is_message and chat in self.last)):
            return
        if event["id"] in self._seen:  # redelivered
            return
        self._seen.add(event["id"])
        if is_message:
            self.messages[chat] += 1
            self.last[chat].append((event["id"], event["text"]))
        else:
            self.failures[event["ref"]] += 1
            self.permanent += not event["transient"]
