"""What ``train_net.py`` runs: configs, processes, trainers, evaluation."""

from focal_retina.engine.evaluation import build_evaluator
from focal_retina.engine.launch import argument_parser, main
from focal_retina.engine.trainer import FocalTrainer

__all__ = ["FocalTrainer", "argument_parser", "build_evaluator", "main"]
