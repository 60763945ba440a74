"""Folding: entries into changes, and changes into commits."""
