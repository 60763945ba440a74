"""Projecting: keeping the builds that serve up to date, sharing partitions with others."""
