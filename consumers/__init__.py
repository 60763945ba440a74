"""Work on the log: handlers, deliveries and sweepers. So far: the idle sweeper."""
