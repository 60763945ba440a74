"""Bounce mails, one a file: delivery status notifications (RFC 3464) and those without a report.

Each mail is `bounce.received` (a `bridge.event`) in the conversation of the mailbox it came to. Each
recipient its report names as failed is `delivery.failed`, permanent, and a dead letter of the group
`bounces` in the recipient's own conversation `mail:<address>`; one named as delayed is
`delivery.failed`, not permanent; any other action is a `bridge.event` `bounce.<action>`. The mail's
content names it, so a copy elsewhere adds nothing. A date without a zone is taken as UTC.
"""

from __future__ import annotations

import email
from collections.abc import Iterator
from datetime import UTC
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, NamedTuple, cast

from bridge.importers.bounce_reason import judge
from bridge.importers.fingerprint import fingerprint
from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.vocabulary import BridgeEvent, DeadLetterParked, DeliveryFailed

GROUP = "bounces"
"""The group in whose name failures are parked."""

MAX_MAIL_BYTES = 64 * 1024 * 1024


class _Status(NamedTuple):
    """What the report says of one recipient."""

    recipient: str
    action: str
    status: str
    diagnostic: str


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of the mail: itself at position 1, its recipients after it."""
    if source.size_bytes > MAX_MAIL_BYTES:
        yield Unit((f"bounce:{source.path.name}",))
        yield Rejected(1, 1, f"a mail of over {MAX_MAIL_BYTES:,} bytes")
        return
    content = source.read()
    digest = fingerprint(content)
    yield Unit((f"bounce:{digest}",))
    mail = email.message_from_bytes(content)
    if not mail.keys():
        yield Rejected(1, 1, "no mail: it has no header")
        return
    occurred_at = _date_us(mail)
    statuses = _statuses(mail)
    kinds = ["mails"]
    kinds += ["mails_with_dsn"] if _reports(mail) else []
    kinds += ["no_or_bad_date"] if occurred_at is None else []
    received = _received(mail, f"bounce:{digest}", occurred_at or 0)
    yield Imported(1, 1, (received,), tuple(kinds))
    for number, status in enumerate(statuses, 1):
        events = _events(status, received, f"bounce:{digest}:{number}:{status.recipient}")
        yield Imported(1 + number, 1, events, (f"action_{status.action}",))


def _received(mail: Message, event_id: str, occurred_at: int) -> Event:
    data: dict[str, Any] = {
        "subject": _header(mail, "Subject"),
        "from": _header(mail, "From"),
        "to": _header(mail, "To"),
        "message_id": _header(mail, "Message-ID").strip(),
        "date": _header(mail, "Date"),
        "has_dsn": bool(_reports(mail)),
    }
    mailbox = _address(data["to"]) or "unknown"
    return BridgeEvent(
        conversation=f"mailbox:{mailbox}",
        id=event_id,
        occurred_at=occurred_at,
        event_type="bounce.received",
        data=data,
    )


def _events(status: _Status, received: Event, event_id: str) -> tuple[Event, ...]:
    envelope: dict[str, Any] = {
        "conversation": f"mail:{status.recipient}",
        "occurred_at": received.occurred_at,
        "causation_id": received.id,
        "correlation_id": received.id,
    }
    verdict = judge(status.status, status.diagnostic)
    if status.action not in ("failed", "delayed"):
        data = {
            "recipient": status.recipient,
            "status": status.status,
            "diagnostic": status.diagnostic,
        }
        event_type = f"bounce.{status.action}"
        return (BridgeEvent(**envelope, id=event_id, event_type=event_type, data=data),)
    failure = DeliveryFailed(
        **envelope,
        id=event_id,
        reason=verdict.reason,
        recipient=status.recipient,
        code=verdict.code,
        permanent=status.action == "failed",
        platform="mail",
        error=status.diagnostic or None,
    )
    if not failure.permanent:
        return (failure,)
    envelope["causation_id"] = event_id
    parked = DeadLetterParked(
        **envelope,
        id=f"{event_id}:parked",
        letter=event_id,
        group=GROUP,
        reason=verdict.reason,
        attempts=1,
        error=failure.error,
        recipient=status.recipient,
    )
    return (failure, parked)


def _reports(mail: Message) -> list[Message]:
    """Return the mail's delivery reports."""
    return [part for part in mail.walk() if part.get_content_type() == "message/delivery-status"]


def _statuses(mail: Message) -> list[_Status]:
    """Return what the reports say, recipient by recipient.

    A report is a block of fields about the mail, then one about each recipient, which the standard
    library gives as one message each; only the latter have an `Action`.
    """
    statuses = []
    for report in _reports(mail):
        blocks = report.get_payload()
        for block in cast("list[Message]", blocks) if isinstance(blocks, list) else []:
            action = _header(block, "Action").strip().lower()
            if action:
                named = _header(block, "Final-Recipient") or _header(block, "Original-Recipient")
                recipient = named.rpartition(";")[2].strip(" \t<>") or "unknown"
                diagnostic = " ".join(_header(block, "Diagnostic-Code").split())
                status = _header(block, "Status").strip()
                statuses.append(_Status(recipient, action, status, diagnostic))
    return statuses


def _date_us(mail: Message) -> int | None:
    """Return the mail's date in µs UTC, or None where it has none that can be read."""
    try:
        moment = parsedate_to_datetime(_header(mail, "Date"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000


def _address(text: str) -> str:
    addresses = [address for _, address in getaddresses([text]) if address]
    return addresses[0] if addresses else ""


def _header(message: Message, name: str) -> str:
    """Return a header as readable text, "" where it is missing; bytes that are no text as U+FFFD."""
    value = message.get(name)
    if value is None:
        return ""
    raw = str(value)
    try:
        text = str(make_header(decode_header(raw)))
    except (HeaderParseError, LookupError, ValueError):
        text = raw
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
