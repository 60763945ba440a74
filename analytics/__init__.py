"""Memory: the log's entries in Parquet segments, and SQL over them and the live tail."""

from analytics.answer import Answer, ReportAnswer
from analytics.archiver import Archiver, Rolling
from analytics.blocking import BlockingWarehouse, open_warehouse
from analytics.catalogue import Catalogue
from analytics.connection import VIEWS, connect
from analytics.copiers import Copiers
from analytics.past import ArchivedPast
from analytics.reports import Reports
from analytics.segment import Coverage, Segment
from analytics.status import PartitionStatus, archive_status
from analytics.storage import DirectoryStorage, Storage
from analytics.warehouse import Warehouse

__all__ = [
    "VIEWS",
    "Answer",
    "ArchivedPast",
    "Archiver",
    "BlockingWarehouse",
    "Catalogue",
    "Copiers",
    "Coverage",
    "DirectoryStorage",
    "PartitionStatus",
    "ReportAnswer",
    "Reports",
    "Rolling",
    "Segment",
    "Storage",
    "Warehouse",
    "archive_status",
    "connect",
    "open_warehouse",
]
