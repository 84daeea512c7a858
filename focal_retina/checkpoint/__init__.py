"""Weights of other projects -> ours, and back; a table of names for each source."""
