"""Memory: the log's entries in Parquet segments, and SQL over them and the live tail."""

from analytics.archiver import Archiver, Rolling
from analytics.catalogue import Catalogue
from analytics.compaction import Compactor
from analytics.connection import VIEWS, connect
from analytics.copiers import Copiers
from analytics.past import ArchivedPast
from analytics.segment import Coverage, Segment
from analytics.status import PartitionStatus, archive_status
from analytics.storage import DirectoryStorage, Storage
from analytics.warehouse import Warehouse

__all__ = [
    "VIEWS",
    "ArchivedPast",
    "Archiver",
    "Catalogue",
    "Compactor",
    "Copiers",
    "Coverage",
    "DirectoryStorage",
    "PartitionStatus",
    "Rolling",
    "Segment",
    "Storage",
    "Warehouse",
    "archive_status",
    "connect",
]
