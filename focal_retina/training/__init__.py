"""The training loop and everything that hangs on it."""
