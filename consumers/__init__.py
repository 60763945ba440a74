"""Work: handlers run on what is appended, in order, with retries; deliveries; dead letters; groups."""

from consumers.context import Context
from consumers.delivery import DeliveryHandlers
from consumers.group_status import GroupPartitionStatus, GroupStatus
from consumers.groups import groups, retire
from consumers.handler import Failure, Handlers
from consumers.retry import Retry, Verdict
from consumers.worker import Limits, Worker

__all__ = [
    "Context",
    "DeliveryHandlers",
    "Failure",
    "GroupPartitionStatus",
    "GroupStatus",
    "Handlers",
    "Limits",
    "Retry",
    "Verdict",
    "Worker",
    "groups",
    "retire",
]
