"""Benchmarks: every row a rate and its ratio to a limit measured in the same run."""
