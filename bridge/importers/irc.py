"""IRC text logs in two layouts.

Day files (`2004-12-25.train-c.raw.txt`): `[09:14] <nick> text`, the day in the file name, which is
taken as the day of the first line; see `irc_clock`. The channel is #ubuntu unless the file name
has one (`#python.2020-01-01.txt`). Lines `=== ...` (joins, parts, renames, old /me) have no time and
take the one before them.

Dated lines (`mediawiki 2013-01-26 [15:04:04] <nick> text`): channel, date and mostly time on each
line; one without a time takes the one before it on that day, else the day's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from bridge.importers.irc_clock import (
    TWELVE_HOURS_UNTIL,
    DayClock,
    Shown,
    midnight_us,
    starts_past_noon,
)
from bridge.importers.items import UNREADABLE, Imported, Item, Rejected, Unit
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.vocabulary import BridgeEvent, MessageReceived, MessageSent, MessageType

BOTS = frozenset({"gerrit-wm", "wikibugs", "eval"})
"""Who is known to be a bot: what they say was sent, not received."""

_DAY_NAME = re.compile(r"(?:^|\D)(\d{4}-\d\d-\d\d)(?:\D|$)")
_CHANNEL_NAME = re.compile(r"#[^\s.]+")
_DAY_LINE = re.compile(r"\[([01]\d|2[0-3]):([0-5]\d)\] ?(.*)", re.DOTALL)
_DATED_LINE = re.compile(
    r"(\S+) (\d{4}-\d\d-\d\d) (?:\[([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?\] ?|(?==== ))(.*)",
    re.DOTALL,
)
_SPOKEN: tuple[tuple[str, MessageType, re.Pattern[str]], ...] = (
    ("message", "text", re.compile(r"<([^>]+)>(?:\t ?|\s)?(.*)", re.DOTALL)),
    ("action", "action", re.compile(r"\s*\* (\S+)\s*(.*)", re.DOTALL)),
    ("notice", "notice", re.compile(r"-(\S+?)(?::#\S+)?- (.*)", re.DOTALL)),
)
_OTHER = re.compile(r"\(([^\s/]+)/#\S+\) (.*)", re.DOTALL)
_SYSTEM = (
    ("irc.join", re.compile(r"has joined #")),
    ("irc.part", re.compile(r"has left #")),
    ("irc.quit", re.compile(r"has quit\b")),
    ("irc.rename", re.compile(r"^\S+ is now known as ")),
    ("irc.mode", re.compile(r"^mode/#")),
    ("irc.kick", re.compile(r"was kicked (?:off|by|from) ")),
    ("irc.topic", re.compile(r"^(?:Topic |\S+ changed the topic )")),
)


def is_timed(line: bytes) -> bool:
    """Return whether the line has a time or date the way IRC logs have."""
    text = line.decode("utf-8", "replace")
    return bool(_DAY_LINE.match(text) or _DATED_LINE.match(text))


def _is_irc(line: bytes) -> bool:
    return line.startswith(b"=== ") or is_timed(line)


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of a log in either layout; positions are line numbers."""
    names = source.names(f"irc:{source.path.name}", _is_irc)
    yield Unit(names)
    dated = any(_DATED_LINE.match(line.decode("utf-8", "replace")) for line in source.head())
    reader: _Dated | _DayFile = _Dated() if dated else _DayFile(source)
    for number, line in source.lines():
        try:
            item = reader.read(number, line.decode())
        except UnicodeDecodeError:
            item = Rejected(number, number, UNREADABLE)
        yield item


class _Log:
    """What both layouts share: who has spoken, and from a line's text to an event."""

    untimed_kind = "system"

    def __init__(self) -> None:
        self._senders: set[str] = set()

    def item(
        self, number: int, text: str, envelope: tuple[str, str, int], extra: tuple[str, ...]
    ) -> Item:
        """Return the line as an event; `envelope` is conversation, id and occurred_at in µs."""
        for kind, message_type, pattern in _SPOKEN:
            if found := pattern.match(text):
                sender, spoken = found[1], found[2].rstrip()
                new = () if sender in self._senders else ("senders",)
                self._senders.add(sender)
                event = _message(envelope, sender, spoken, message_type)
                return Imported(number, number, (event,), (kind, *new, *extra))
        if text.startswith("=== "):
            said = text[4:].rstrip()
            event_type = next((name for name, sign in _SYSTEM if sign.search(said)), "irc.system")
            event = _bridge_event(envelope, event_type, said)
            return Imported(number, number, (event,), (self.untimed_kind, *extra))
        if _OTHER.match(text):
            event = _bridge_event(envelope, "irc.other", text.rstrip())
            return Imported(number, number, (event,), ("other", *extra))
        return Rejected(number, number, "not a line of an IRC log")


class _DayFile(_Log):
    def __init__(self, source: Source) -> None:
        super().__init__()
        name = source.path.name
        found, channel = _DAY_NAME.search(name), _CHANNEL_NAME.search(name)
        self._problem = "" if found else "the file's name has no date (YYYY-MM-DD) to tell its day"
        try:
            day = date.fromisoformat(found[1] if found else "1970-01-01")
        except ValueError as error:
            self._problem, day = f"the file's name has no date: {error}", date(1970, 1, 1)
        self._channel = channel[0] if channel else "#ubuntu"
        self._id = f"irc:{self._channel}:{name}"
        starts_pm = day < TWELVE_HOURS_UNTIL and starts_past_noon(day, _shown(source))
        self._clock = DayClock(day, starts_pm=starts_pm)
        first = next(_shown(source), None)
        if first is not None:
            self._clock.advance(first)  # lines before the first time take that one

    def read(self, number: int, text: str) -> Item:
        if self._problem:
            return Rejected(number, number, self._problem)
        timed = _DAY_LINE.match(text)
        if timed is None and not text.startswith("=== "):
            return Rejected(number, number, "not a line of an IRC log")
        rolled = timed is not None and self._clock.advance(Shown(int(timed[1]), int(timed[2])))
        envelope = (f"irc:{self._channel}", f"{self._id}:{number}", self._clock.now_us)
        body = timed[3] if timed else text
        return self.item(number, body, envelope, ("clock_rollovers",) if rolled else ())


class _Dated(_Log):
    untimed_kind = "other"

    def __init__(self) -> None:
        super().__init__()
        self._day = ""
        self._now_us = 0

    def read(self, number: int, text: str) -> Item:
        found = _DATED_LINE.match(text)
        if found is None:
            return Rejected(number, number, "not a line of an IRC log")
        channel, day, hour, minute, second, body = found.groups()
        try:
            moment_us = midnight_us(date.fromisoformat(day))
        except ValueError as error:
            return Rejected(number, number, f"{day}: {error}")
        if hour is not None:
            moment_us += (int(hour) * 3600 + int(minute) * 60 + int(second or 0)) * 1_000_000
        self._now_us = max(self._now_us, moment_us)
        rolled = self._day not in ("", day)
        self._day = day
        at = f"{day}:{hour}:{minute}:{second or '00'}" if hour else day
        envelope = (f"irc:#{channel}", f"irc:{channel}:{at}:{number}", self._now_us)
        return self.item(number, body, envelope, ("clock_rollovers",) if rolled else ())


def _shown(source: Source) -> Iterator[Shown]:
    for _, line in Source(source.path).lines():
        if found := _DAY_LINE.match(line.decode("utf-8", "replace")):
            yield Shown(int(found[1]), int(found[2]))


def _message(
    envelope: tuple[str, str, int], sender: str, text: str, message_type: MessageType
) -> Event:
    conversation, event_id, occurred_at = envelope
    message = MessageSent if sender in BOTS else MessageReceived
    return message(
        conversation=conversation,
        id=event_id,
        occurred_at=occurred_at,
        text=text,
        sender=sender,
        message_type=message_type,
        platform="irc",
    )


def _bridge_event(envelope: tuple[str, str, int], event_type: str, text: str) -> Event:
    conversation, event_id, occurred_at = envelope
    return BridgeEvent(
        conversation=conversation,
        id=event_id,
        occurred_at=occurred_at,
        event_type=event_type,
        data={"text": text},
    )
