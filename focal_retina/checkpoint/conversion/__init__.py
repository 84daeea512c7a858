"""Weights of other projects, renamed to ours and back: one file for each project."""
