"""The command `eventlog`, one file per group of commands."""
