from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.importers import bounce
from bridge.importers.bounce_reason import Verdict, judge
from bridge.importers.items import Imported, Rejected, Unit
from bridge.importers.source import Source
from eventlog.codec import Codec
from eventlog.vocabulary import BridgeEvent, DeadLetterParked, DeliveryFailed

DATA = Path(__file__).parent.parent.parent / "examples" / "data" / "bounces"


def read(path: Path) -> list[Imported]:
    items = list(bounce.parse(Source(path)))
    assert not [i for i in items if isinstance(i, Rejected)]
    return [i for i in items if isinstance(i, Imported)]


def test_a_failure_is_a_failed_delivery_and_a_dead_letter():
    mail, recipient = read(DATA / "lhost-amazonses-05.eml")
    [received] = mail.events
    assert isinstance(received, BridgeEvent)
    assert mail.kinds == ("mails", "mails_with_dsn")
    assert received.data["has_dsn"] is True
    failed, parked = recipient.events
    assert isinstance(failed, DeliveryFailed)
    assert isinstance(parked, DeadLetterParked)
    assert recipient.kinds == ("action_failed",)
    assert (failed.permanent, failed.reason, failed.code) == (True, "userunknown", "5.1.1")
    assert failed.conversation == "mail:bounce@simulator.amazonses.com"
    assert (parked.group, parked.letter, parked.reason) == ("bounces", failed.id, failed.reason)
    assert (
        datetime.fromtimestamp(failed.occurred_at / 1e6, UTC).isoformat()
        == "2016-10-11T12:38:58+00:00"
    )


def test_each_recipient_counts():
    records = read(DATA / "lhost-postfix-13.eml")
    failures = [r.events[0] for r in records[1:]]
    assert [(f.recipient, f.code) for f in failures] == [
        ("kijitora@example.jp", "5.2.1"),
        ("noraneko@example.jp", "5.2.2"),
    ]
    assert len({event.id for record in records for event in record.events}) == 5


def test_a_delay_is_not_final():
    [_, delayed] = read(DATA / "rfc3464-07.eml")
    assert delayed.kinds == ("action_delayed",)
    assert [(e.type, e.permanent) for e in delayed.events] == [("delivery.failed", False)]


@pytest.mark.parametrize("name", ["lhost-gmail-19.eml", "rfc3464-39.eml"])
def test_a_mail_without_report_is_only_received(name):
    [mail] = read(DATA / name)
    assert mail.kinds == ("mails",)
    assert mail.events[0].data["has_dsn"] is False


def test_a_date_without_a_zone_is_utc():
    [mail] = read(DATA / "rfc3464-39.eml")
    assert mail.events[0].occurred_at == 1_178_235_285_000_000


def test_the_content_names_the_mail_not_its_place(tmp_path):
    copy = tmp_path / "1731.M1P2.host,S=1:2,S"
    copy.write_bytes((DATA / "rfc3464-39.eml").read_bytes())
    [here] = [i for i in bounce.parse(Source(copy)) if isinstance(i, Unit)]
    [there] = [i for i in bounce.parse(Source(DATA / "rfc3464-39.eml")) if isinstance(i, Unit)]
    assert here.names == there.names


def test_any_bytes_give_events_the_log_takes(tmp_path):
    path = tmp_path / "odd.eml"
    path.write_bytes(
        b"From: =?utf-8?q?K=C3=A4tzchen?= <\xff@example.org>\r\nSubject: \xfe\xff =?x-unknown?q?a?=\r\n"
        b"Date: some day\r\nContent-Type: multipart/report; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; a\r\n\r\n"
        b"Final-Recipient: rfc822; <\xe9@example.org>\r\nAction: FAILED\r\n"
        b"Diagnostic-Code: smtp; 550 5.2.2 \xe9\r\n\r\n"
        b"Final-Recipient: rfc822; cat@example.org\r\nAction: relayed\r\n\r\n--b--\r\n"
    )
    records = read(path)
    codec = Codec()
    for record in records:
        for event in record.events:
            codec.encode(event)
    assert records[0].kinds == ("mails", "mails_with_dsn", "no_or_bad_date")
    assert [r.kinds for r in records[1:]] == [("action_failed",), ("action_relayed",)]
    assert records[1].events[0].reason == "mailboxfull"
    assert records[2].events[0].event_type == "bounce.relayed"


def test_a_file_without_a_header_is_no_mail(tmp_path):
    path = tmp_path / "x.eml"
    path.write_text("\njust words\n")
    assert [i.reason for i in bounce.parse(Source(path)) if isinstance(i, Rejected)] == [
        "no mail: it has no header"
    ]


@pytest.mark.parametrize(
    ("status", "diagnostic", "verdict"),
    [
        ("5.1.1", "smtp; 550 5.1.1 unknown", Verdict("userunknown", "5.1.1")),
        ("5.0.0", "smtp; 552 5.2.2 over it", Verdict("mailboxfull", "5.2.2")),
        ("5.0.0", "smtp; 550 Mailbox quota exceeded", Verdict("mailboxfull", "550")),
        ("4.4.7", "", Verdict("expired", "4.4.7")),
        ("5.7.1", "smtp; 550 5.7.1 per DMARC rules", Verdict("authfailure", "5.7.1")),
        ("5.7.1 (no)", "", Verdict("policyviolation", "5.7.1")),
        ("5.0.0", "", Verdict("undefined", "5.0.0")),
        ("", "host 192.0.2.222 said nothing", Verdict("undefined", None)),
    ],
)
def test_reasons(status, diagnostic, verdict):
    assert judge(status, diagnostic) == verdict
