"""What an HTTP status says of a message that a platform did not take. Pure."""

from __future__ import annotations

from typing import NamedTuple

from consumers.senders.http_client import HttpClient, Reply
from consumers.senders.retry_after import read_retry_after
from eventlog.errors import SendFailed


class Refusal(NamedTuple):
    """What a refusal is counted as."""

    reason: str
    permanent: bool = True
    remedy: str = ""


_BY_STATUS = {
    # The message is in order, what the sender proves itself with is not.
    401: Refusal("unauthorized", permanent=False, remedy="Mend the sender's token or secret."),
    403: Refusal("forbidden"),
    404: Refusal("not_found"),
    410: Refusal("gone"),
    413: Refusal("too_large"),
    # These say that the same request may be taken later: the receiver waited for it in vain (408),
    # is at work on an earlier attempt of the same key (409), fears a replay (425), is busy (429).
    408: Refusal("timeout", permanent=False),
    409: Refusal("conflict", permanent=False),
    425: Refusal("too_early", permanent=False),
    429: Refusal("rate_limited", permanent=False),
}
_OTHER_4XX = Refusal("refused")
_SERVER_ERROR = Refusal("server_error", permanent=False)
_REDIRECTED = Refusal(
    # The message is in order, the address is not.
    "redirected",
    permanent=False,
    remedy="Give the sender the new URL: redirects are not followed.",
)
_NO_STATUS = Refusal("invalid_reply", permanent=False)


def refusal_of(status: int) -> Refusal:
    """Return what a status other than 2xx means by HTTP's own rules."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    by_class = {3: _REDIRECTED, 4: _OTHER_4XX, 5: _SERVER_ERROR}
    return by_class.get(status // 100, _NO_STATUS)


def refused(client: HttpClient, reply: Reply, now_us: int) -> SendFailed:
    """Return the failure that a reply other than 2xx stands for, with the wait it asks for."""
    refusal = refusal_of(reply.status)
    said = client.excerpt(reply.body)
    return SendFailed(
        f"{client.origin} answered {reply.status}{': ' + said if said else '.'}",
        reason=refusal.reason,
        status=str(reply.status),
        permanent=refusal.permanent,
        retry_after_s=read_retry_after(reply.headers, now_us),
        remedy=refusal.remedy,
    )
