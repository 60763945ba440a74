"""Storing: builds of read models, what a batch changes in them, and where they are kept."""
