"""A cage for SQL from strangers: a process that can read the archive, answer, and nothing else.

The parent's side is `sandbox.py`, the child's `child.py`. The child imports this package without
`analytics` itself, hence without the rest of the product: nothing here but what runs in both.
"""
