"""Asking the warehouse."""

from __future__ import annotations

from typing import Any

from analytics import Warehouse


async def rows(warehouse: Warehouse, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows that a query gives."""
    table = await warehouse.query(sql, parameters)
    return [tuple(row.values()) for row in table.to_pylist()]
