"""A trained model on pictures and videos, without a dataset."""
