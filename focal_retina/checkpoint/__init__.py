"""Checkpoints: written whole, read without running code, and converted from other projects."""
