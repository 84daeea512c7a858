"""One program for every config: settings -> data -> model -> train or evaluate."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.checks.training_data import check_training_data
from focal_retina.data.register import class_names
from focal_retina.errors import UserError
from focal_retina.evaluation.evaluate import evaluate, evaluate_with_tta
from focal_retina.evaluation.evaluators import evaluator_type
from focal_retina.settings.advice import (
    frozen_norm_advice,
    learning_rate_advice,
    log_advice,
    weights_pixel_advice,
)
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.load import load_settings
from focal_retina.settings.machine import check_writable
from focal_retina.settings.run_settings import RunSettings
from focal_retina.training.trainer import FocalTrainer


def load(
    config_file: str,
    opts: Sequence[str] = (),
    *,
    trust_config: bool = False,
    eval_only: bool = False,
) -> RunSettings:
    """Return the complete settings of a run, its datasets registered.

    Raises:
        UserError: the first mistake in the config, or a dataset that cannot be used.
    """
    settings = load_settings(config_file, opts, trust_config=trust_config, trains=not eval_only)
    return _complete(settings, eval_only)


def prepare(
    config_file: str,
    opts: Sequence[str] = (),
    *,
    trust_config: bool = False,
    eval_only: bool = False,
    resume: bool = False,
) -> Callable[[], dict]:
    """Build all that the config asks for, and return the function that trains or evaluates.

    That function returns the results of the last evaluation.

    Raises:
        UserError: as :func:`load`; a folder, data or weights that cannot be used; a part that
            cannot be built.
    """
    settings = load_settings(config_file, opts, trust_config=trust_config, trains=not eval_only)
    check_writable(settings.key("output_dir"), settings.output_dir)
    setup_logger(settings.output_dir, distributed_rank=comm.get_rank(), name="focal_retina")
    settings = _complete(settings, eval_only)
    default_setup(
        settings.cfg,
        SimpleNamespace(
            config_file=config_file, opts=list(opts), eval_only=eval_only, resume=resume
        ),
    )
    log_advice(settings.parts.ignored_keys())
    if pixels := settings.parts.pixels():
        log_advice(weights_pixel_advice(settings.weights, pixels))
    if eval_only:
        return _evaluation(settings, resume)
    train, test = settings.train_datasets, settings.test_datasets
    check_training_data(train, test, settings.filter_empty, config_file, opts)
    return _training(settings, resume)


def _complete(settings: RunSettings, eval_only: bool) -> RunSettings:
    test, train = list(settings.test_datasets), list(settings.train_datasets)
    needed = "test_datasets" if eval_only else "train_datasets"
    if not getattr(settings, needed):
        raise UserError(f"{settings.key(needed)} is empty")
    names = test if eval_only else train + test
    settings = settings.completed(names)
    if settings.parts.evaluator() is None:
        for name in settings.parts.test_loaders():  # now rather than after training
            evaluator_type(name)
    return settings


def _evaluation(settings: RunSettings, resume: bool) -> Callable[[], dict]:
    model = settings.parts.model()
    names = class_names(settings.test_datasets)
    checkpointer = FocalCheckpointer(model, settings.output_dir, class_names=names, complete=True)
    with weights_errors(settings.key("weights"), settings.weights):
        checkpointer.resume_or_load(settings.weights, resume=resume)

    def run() -> dict:
        results = {**evaluate(settings, model), **evaluate_with_tta(settings, model)}
        _verify(settings, results)
        return results

    return run


def _training(settings: RunSettings, resume: bool) -> Callable[[], dict]:
    trainer = FocalTrainer(settings)
    key = settings.key
    if settings.batch_size and isinstance(trainer.optimizer, torch.optim.SGD):
        rate = learning_rate_advice(
            key("learning_rate"), settings.learning_rate, key("batch_size"), settings.batch_size
        )
        log_advice(rate)
    if not settings.weights and not (resume and trainer.checkpointer.has_checkpoint()):
        remedy = settings.parts.norm_remedy
        log_advice(frozen_norm_advice(trainer.model, key("weights"), remedy))
    trainer.resume_or_load(resume=resume)

    def run() -> dict:
        results = trainer.train()
        _verify(settings, results)
        return results

    return run


def _verify(settings: RunSettings, results: dict) -> None:
    """End the program with status 1 where the results are not the expected ones."""
    if comm.is_main_process():
        expected = {"TEST": {"EXPECTED_RESULTS": list(settings.expected_results)}}
        verify_results(CfgNode(expected), results)
