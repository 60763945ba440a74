"""Reading: what is stored, with the log's tail folded over it, and what is older behind it."""
