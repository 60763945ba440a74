"""Ways out of the log: one sender a platform, all behind one protocol."""
