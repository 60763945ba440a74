"""Memory: the log's entries in Parquet segments, and SQL over them and the live tail."""

from analytics.archiver import Archiver, Rolling
from analytics.catalogue import Catalogue
from analytics.connection import VIEWS, connect
from analytics.copiers import Copiers
from analytics.past import ArchivedPast
from analytics.retention import Policy
from analytics.segment import Coverage, Segment
from analytics.status import PartitionStatus, archive_status
from analytics.storage import DirectoryStorage, Storage
from analytics.trimmer import Retention
from analytics.warehouse import Warehouse

__all__ = [
    "VIEWS",
    "ArchivedPast",
    "Archiver",
    "Catalogue",
    "Copiers",
    "Coverage",
    "DirectoryStorage",
    "PartitionStatus",
    "Policy",
    "Retention",
    "Rolling",
    "Segment",
    "Storage",
    "Warehouse",
    "archive_status",
    "connect",
]
