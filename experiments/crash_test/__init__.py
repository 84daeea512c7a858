"""Trainings that are killed and resumed, and compared with one that was not killed."""
