"""Datasets: the drawn shapes, and the user's own as declared in a config."""
