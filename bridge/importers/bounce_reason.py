"""Why a mail came back: one word from its enhanced status code (RFC 3463) and diagnostic, pure.

The words are those of mail administrators' tools (`userunknown`, `mailboxfull`, `expired`, ...).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_SMTP = re.compile(r"(?<![\d.])([245]\d\d)(?![\d.])")

_BY_TEXT: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        ("mailboxfull", r"quota|mailbox (?:is )?full|mailbox size|out of storage|over ?quota"),
        (
            "userunknown",
            r"user unknown|unknown user|no such user|does ?n[o']t exist|user not found",
        ),
        ("authfailure", r"\bdmarc\b|\bdkim\b|\bspf\b"),
        ("toomanyconn", r"too many (?:connections|recipients)|connection rate"),
        ("speeding", r"at a rate that|rate limit"),
        ("rejected", r"domain of sender|sender address rejected"),
        ("norelaying", r"relay(?:ing)? (?:access )?denied|not permitted to relay"),
        ("hostunknown", r"host (?:or domain name )?not found|name or service not known"),
        (
            "suspend",
            r"(?:account|mailbox|user) (?:is )?(?:disabled|suspended|inactive|frozen)|temporary locked",
        ),
        ("mesgtoobig", r"(?:message|mail) (?:is )?too (?:big|large)|size limit"),
        ("spamdetected", r"\bspam\b|unsolicited"),
        ("blocked", r"blocked|black ?list|blocklist|client host rejected"),
        ("mailererror", r"command (?:died|failed)|mailer error"),
        ("policyviolation", r"polic(?:y|ies)\b|protocol violation"),
        ("securityerror", r"unauthenticated|authentication required"),
        ("expired", r"timed? ?out|too long|expired|connection refused"),
    )
)
_BY_STATUS = {
    "1.0": "userunknown",
    "1.1": "userunknown",
    "1.2": "hostunknown",
    "1.3": "userunknown",
    "1.6": "hasmoved",
    "1.8": "rejected",
    "2.0": "filtered",
    "2.1": "suspend",
    "2.2": "mailboxfull",
    "2.3": "mesgtoobig",
    "3.1": "systemfull",
    "3.2": "notaccept",
    "3.4": "mesgtoobig",
    "4.1": "expired",
    "4.2": "networkerror",
    "4.4": "hostunknown",
    "4.6": "networkerror",
    "4.7": "expired",
}
_BY_CLASS = {
    "3": "systemerror",
    "4": "networkerror",
    "5": "syntaxerror",
    "6": "contenterror",
    "7": "policyviolation",
}
_BY_SMTP = {
    "421": "expired",
    "504": "syntaxerror",
    "550": "rejected",
    "552": "mailboxfull",
    "554": "rejected",
}


class Verdict(NamedTuple):
    """`reason` in one word, and `code`: the most telling enhanced or SMTP code, if any."""

    reason: str
    code: str | None


def judge(status: str, diagnostic: str) -> Verdict:
    """Return the verdict on a recipient's `Status` and `Diagnostic-Code` fields.

    A status like 5.0.0 says nothing; the diagnostic's own code is then taken, and failing that its
    SMTP code. Plain words in the diagnostic beat codes, which servers use carelessly.

    >>> judge("5.0.0", "smtp; 550 5.1.1 <cat@example.org>: unknown")
    Verdict(reason='userunknown', code='5.1.1')
    >>> judge("4.4.7", "")
    Verdict(reason='expired', code='4.4.7')
    """
    telling = [
        code
        for code in (*_ENHANCED.findall(status), *_ENHANCED.findall(diagnostic))
        if code[1:] != ("0", "0")
    ]
    smtp = _SMTP.search(diagnostic)
    code = ".".join(telling[0]) if telling else _plain_code(status, smtp)
    for reason, pattern in _BY_TEXT:
        if pattern.search(diagnostic):
            return Verdict(reason, code)
    for _, subject, detail in telling:
        reason = _BY_STATUS.get(f"{subject}.{detail}") or _BY_CLASS.get(subject, "")
        if reason:
            return Verdict(reason, code)
    return Verdict(_BY_SMTP.get(smtp[1], "undefined") if smtp else "undefined", code)


def _plain_code(status: str, smtp: re.Match[str] | None) -> str | None:
    if smtp:
        return smtp[1]
    enhanced = _ENHANCED.search(status)
    return enhanced[0] if enhanced else None
