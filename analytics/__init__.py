"""Memory: the log's entries in Parquet segments, and SQL over them and the live tail."""

from analytics.answer import Answer, ReportAnswer
from analytics.archiver import Archiver, Rolling
from analytics.blocking import BlockingWarehouse, open_warehouse
from analytics.bucket import BucketStorage
from analytics.catalogue import Catalogue
from analytics.compaction import Compactor
from analytics.connection import VIEWS, connect
from analytics.copiers import Copiers
from analytics.opening import open_storage, storage_of
from analytics.past import ArchivedPast
from analytics.reports import Reports
from analytics.retention import Policy
from analytics.sandbox.limits import Limits
from analytics.sandbox.sandbox import Sandbox
from analytics.segment import Coverage, Segment
from analytics.status import PartitionStatus, archive_status
from analytics.storage import DirectoryStorage, Storage
from analytics.trimmer import Retention
from analytics.warehouse import Warehouse

__all__ = [
    "VIEWS",
    "Answer",
    "ArchivedPast",
    "Archiver",
    "BlockingWarehouse",
    "BucketStorage",
    "Catalogue",
    "Compactor",
    "Copiers",
    "Coverage",
    "DirectoryStorage",
    "Limits",
    "PartitionStatus",
    "Policy",
    "ReportAnswer",
    "Reports",
    "Retention",
    "Rolling",
    "Sandbox",
    "Segment",
    "Storage",
    "Warehouse",
    "archive_status",
    "connect",
    "open_storage",
    "open_warehouse",
    "storage_of",
]
