"""Signed webhooks by the Standard Webhooks specification (standardwebhooks.com). Pure.

What is signed is `ID.TIMESTAMP.BODY`, by HMAC-SHA256.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

from eventlog.errors import ConfigurationError

TOLERANCE_S = 5 * 60
"""A signature older, or more in the future, is refused: somebody may be playing it again."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

_SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret of the specification begins
_VERSION_PREFIX = "v1,"
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
_AS_IT_IS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def signed_headers(secret: str, message_id: str, body: bytes, now_us: int) -> dict[str, str]:
    """Return the three headers that go with `body`.

    `secret` is `whsec_` and base64, or any other text. What a header cannot hold of `message_id`
    is percent-encoded. Raises ConfigurationError for a secret that is none.
    """
    header_id = header_text(message_id)
    timestamp = str(now_us // 1_000_000)
    return {
        ID_HEADER: header_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: _VERSION_PREFIX + _digest(secret, header_id, timestamp, body),
    }


def header_text(text: str) -> str:
    """Return a text as a header can hold it: what it cannot is percent-encoded."""
    return quote(text, safe=_AS_IT_IS)


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_us: int) -> bool:
    """Return whether `body`, as it came, was signed with `secret` within the last five minutes.

    For receivers. One of several signatures is enough, as while a secret is being changed. A
    receiver that also remembers the ids it has seen takes each message once.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (
        found.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    )
    if not message_id or not _TIMESTAMP.fullmatch(timestamp):
        return False
    if abs(now_us / 1e6 - int(timestamp)) > TOLERANCE_S:
        return False
    expected = (_VERSION_PREFIX + _digest(secret, message_id, timestamp, body)).encode()
    given = [signature.encode(errors="replace") for signature in signatures.split()]
    return any(hmac.compare_digest(expected, signature) for signature in given)


def _digest(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode(errors="surrogatepass") + body
    return base64.b64encode(hmac.digest(signing_key(secret), signed, "sha256")).decode()


def signing_key(secret: str) -> bytes:
    """Return the bytes that a secret stands for, or raise ConfigurationError; it is not shown."""
    try:
        key = (
            base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
            if secret.startswith(_SECRET_PREFIX)
            else secret.encode()
        )
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ConfigurationError(
            "the webhook's secret is no secret.",
            remedy="Give `whsec_` and base64, or any other text that is not empty.",
        )
    return key
