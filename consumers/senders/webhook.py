"""Deliveries to an HTTP endpoint of one's own, signed."""

from __future__ import annotations

import msgspec

from consumers.senders.http_client import HttpClient, HttpLimits
from consumers.senders.json_reply import json_object, message_id_in
from consumers.senders.refusal import refused
from consumers.senders.sender import Delivery, Receipt, recipient_of
from consumers.senders.signature import header_text, signed_headers, signing_key
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.vocabulary import MessageQueued

CORRELATION_HEADER = "X-Correlation-ID"


class WebhookSender:
    """Posts the queued event as JSON, signed by the Standard Webhooks specification.

    The body is the event as the log has it, `recipient` filled in; it and the header `webhook-id`
    are the same at every attempt. Any 2xx is a yes, whatever becomes of its body; a JSON object
    with `message_id` in it names the message. Receivers check the signature with
    `consumers.senders.signature.verify` or any library of the specification, and know by
    `webhook-id` what they have already taken: a message whose reply was lost comes again. What has a
    correlation id carries it as `X-Correlation-ID`, for the logs of both sides.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        limits: HttpLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`secret` is `whsec_` and base64, or any other text. Raises ConfigurationError."""
        signing_key(secret)
        self._secret = secret
        self._clock = clock
        self._http = HttpClient(url, secrets=[secret], limits=limits)

    def __repr__(self) -> str:
        return f"WebhookSender({self._http.origin!r})"

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        """Return when the endpoint has said 2xx; raise SendFailed where it has not."""
        addressed = msgspec.structs.replace(message, recipient=recipient_of(message))
        body = msgspec.json.encode(addressed)
        key, now_us = delivery.idempotency_key, self._clock.now_us()
        headers = signed_headers(self._secret, key, body, now_us)
        headers["Content-Type"] = "application/json"
        if delivery.correlation_id is not None:
            headers[CORRELATION_HEADER] = header_text(delivery.correlation_id)
        reply = await self._http.post(body, headers)
        if reply.status // 100 != 2:
            raise refused(self._http, reply, self._clock.now_us())
        return Receipt(message_id_in(json_object(reply.body)))

    async def close(self) -> None:
        """Close the connections; the next `send` opens new ones."""
        await self._http.close()
