"""The pages at `/`: what is going on, and what to do about it, for people."""
