"""One program for every config: settings -> data -> model -> train or evaluate."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import TextIO

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
from focal_retina.run_files import tell_missing, watch
from focal_retina.settings import advice
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.load import load_settings
from focal_retina.settings.machine import check_writable, lock_folder
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
    lock = None if eval_only else lock_folder(settings.key("output_dir"), settings.output_dir)
    watch(settings.output_dir)
    setup_logger(settings.output_dir, distributed_rank=comm.get_rank(), name="focal_retina")
    settings = _complete(settings, eval_only)
    args = Namespace(config_file=config_file, opts=[*opts], eval_only=eval_only, resume=resume)
    default_setup(settings.cfg, args)
    advice.log(settings.parts.ignored_keys())
    if pixels := settings.parts.pixels():
        advice.log(advice.pixels_of_weights(settings.weights, pixels))
    if eval_only:
        return partial(_verified, settings, _evaluation(settings, resume))
    train, test = settings.train_datasets, settings.test_datasets
    resize = settings.parts.smallest_resize()
    check_training_data(train, test, settings.filter_empty, config_file, opts, resize)
    return partial(_verified, settings, _trainer(settings, resume).train, lock)


def _complete(settings: RunSettings, eval_only: bool) -> RunSettings:
    needed = "test_datasets" if eval_only else "train_datasets"
    if not getattr(settings, needed):
        raise UserError(f"{settings.key(needed)} is empty")
    train = [] if eval_only else settings.train_datasets
    settings = settings.completed([*train, *settings.test_datasets])
    if settings.parts.evaluator() is None:
        for name in settings.parts.test_loaders():  # now rather than after training
            evaluator_type(name)
    return settings


def _evaluation(settings: RunSettings, resume: bool) -> Callable[[], dict]:
    model = settings.parts.model()
    names = class_names(settings.test_datasets)
    checkpointer = FocalCheckpointer(model, settings.output_dir, class_names=names, complete=True)
    if not settings.weights and not (resume and checkpointer.has_checkpoint()):
        raise UserError(f"{settings.key('weights')} is empty: name the weights to evaluate")
    with weights_errors(settings.key("weights"), settings.weights):
        checkpointer.resume_or_load(settings.weights, resume=resume)
    return lambda: {**evaluate(settings, model), **evaluate_with_tta(settings, model)}


def _trainer(settings: RunSettings, resume: bool) -> FocalTrainer:
    trainer = FocalTrainer(settings)
    key, lr, images = settings.key, settings.learning_rate, settings.batch_size
    if images and isinstance(trainer.optimizer, torch.optim.SGD):
        advice.log(advice.learning_rate(key("learning_rate"), lr, key("batch_size"), images))
    if not settings.weights and not (resume and trainer.checkpointer.has_checkpoint()):
        remedy = settings.parts.norm_remedy
        advice.log(advice.frozen_norm(trainer.model, key("weights"), remedy))
    trainer.resume_or_load(resume=resume)
    return trainer


def _verified(settings: RunSettings, run: Callable[[], dict], lock: TextIO | None = None) -> dict:
    """Return the results; end the program with status 1 where they are not the expected ones.

    The lock of the folder, if any, is kept till then.
    """
    try:
        results = run()
    finally:
        if comm.is_main_process():
            tell_missing()
    if comm.is_main_process():
        expected = {"TEST": {"EXPECTED_RESULTS": list(settings.expected_results)}}
        verify_results(CfgNode(expected), results)
    return results
