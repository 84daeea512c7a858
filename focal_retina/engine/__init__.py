"""From a command line to a running job."""

from focal_retina.engine.launch import argument_parser, main
from focal_retina.evaluation.evaluators import build_evaluator
from focal_retina.training.trainer import FocalTrainer

__all__ = ["FocalTrainer", "argument_parser", "build_evaluator", "main"]
