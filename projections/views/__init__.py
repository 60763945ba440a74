"""The built-in read models, one file each: the fold and the questions it answers."""
