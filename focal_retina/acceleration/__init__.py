"""What gives the same numbers faster on a CPU: convolutions and folded batch normalisation."""
