"""Chats to read the history of."""

from __future__ import annotations

from eventlog.event import Event
from eventlog.vocabulary import MessageQueued, MessageReceived, MessageSent
from projections.views.history import HistoryPage

TEXTS = [f"text {n}" for n in range(10)]


def said(page: HistoryPage) -> list[str]:
    return [entry.event.text for entry in page.entries]  # type: ignore[attr-defined]


def ten_texts() -> list[Event]:
    events: list[Event] = []
    for n, text in enumerate(TEXTS):
        message = MessageSent if n % 3 == 2 else MessageReceived
        events += [
            message(conversation="chat", text=text, occurred_at=100 - n, sender=f"u{n % 2}"),
            MessageReceived(conversation="other", text="noise"),
            MessageQueued(conversation="chat", text="not said yet"),
        ]
    return events
