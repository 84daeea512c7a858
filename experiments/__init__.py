"""Experiments on the package: they need the checkout and are not installed."""
