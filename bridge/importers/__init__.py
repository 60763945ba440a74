"""Existing records as events: one file per format, each a pure generator of items, one driver.

`importing.import_paths` is the entry. A parser (`irc`, `openhands`, `claude_code`, `tau_bench`,
`bounce`, `neutral`) turns a `source.Source` into `items`; `detect` finds files and their formats;
`report` is what came of it.
"""
