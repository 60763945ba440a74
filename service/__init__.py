"""The processes: command line and wiring."""
