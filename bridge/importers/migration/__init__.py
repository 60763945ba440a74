"""Records of an older bridge, from SQLite tables or JSON lines, as events.

`values` reads single values, `layout` knows what fields are called, `records` makes events of a
record by field; `database`, `mapping`, `tables` and `sessions` are for SQLite; `checking` compares
what was imported with its source.
"""
