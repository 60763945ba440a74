"""Building: a read model made anew beside the one that serves; and is it what the log says."""
