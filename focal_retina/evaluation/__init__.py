"""Evaluating a model: evaluators, evaluation mode and validation losses."""
