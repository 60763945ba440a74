"""A process that delivers to a webhook until SIGTERM: a bridge, as far as deliveries go.

`python -m tests.fault.delivering_process URL OWNER SETTINGS RECEIVER`, the settings as JSON.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from consumers import DeliveryHandlers, Retry, Worker
from consumers.senders.webhook import WebhookSender
from eventlog import Settings
from tests.fault.processes import opened, report_on_standard_error, told_to_stop

GROUP = "delivery"
ATTEMPTS = 2
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def main(url: str, owner: str, settings: str, receiver: str) -> None:
    stop = told_to_stop()
    log = await opened(url, msgspec.json.decode(settings, type=Settings))
    handlers = DeliveryHandlers(
        {"web": WebhookSender(receiver, SECRET)},
        retry=Retry(attempts=ATTEMPTS, first_delay_s=0.02, jitter=0),
    )
    try:
        await Worker(log, GROUP, handlers, owner=owner).run(stop)
    finally:
        await handlers.close()
        await log.close()


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(*sys.argv[1:]))
