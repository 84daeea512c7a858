"""The job of a LazyConfig: that of a YAML config, from the parts that the config names."""

import logging
import os
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from detectron2.engine import default_setup, hooks
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.checks.training_data import TrainingData, check_training_data
from focal_retina.data.loader import exact_loader_config
from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.evaluation.evaluators import FRESH_COCO, coco_evaluator_class
from focal_retina.evaluation.lazy_evaluation import evaluate, evaluate_with_tta
from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings.advice import (
    frozen_norm_advice,
    learning_rate_advice,
    log_advice,
    weights_pixel_advice,
)
from focal_retina.settings.checks import (
    check_datasets,
    check_writable,
    empty_data_errors,
    usable_device,
    weights_errors,
)
from focal_retina.settings.lazy_config import load_lazy
from focal_retina.settings.lazy_parts import build_part
from focal_retina.settings.options import TrainingOptions, clip_gradients
from focal_retina.settings.precision import autocast_dtype
from focal_retina.training.hooks import add_hooks
from focal_retina.training.loop import TrainingLoop
from focal_retina.training.resume import with_exact_resume
from focal_retina.training.run_checkpointer import RunCheckpointer
from focal_retina.training.trainer import check_batch_size, distribute
from focal_retina.training.writers import resumable_writers

logger = logging.getLogger(__name__)


def load(args: Namespace) -> DictConfig:
    """Return the complete config of ``args``, its datasets registered.

    Raises:
        ValueError: the first contradiction or missing piece.
    """
    return _complete(read(args), args.eval_only)


def prepare(args: Namespace) -> Callable[[], object]:
    """Build all that the config asks for, and return the function that trains or evaluates.

    Raises:
        ValueError: as in :func:`load`, or from a part of Detectron2 or focal_retina.
    """
    cfg = read(args)
    check_writable("train.output_dir", cfg.train.output_dir)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="focal_retina")
    _complete(cfg, args.eval_only)
    default_setup(cfg, args)
    if not args.eval_only:
        check_training_data(_training_data(cfg), args.config_file, args.opts)
    model = build_part(cfg, "model").to(cfg.train.device)
    logger.info(f"Model:\n{model}")
    if "preprocessor" in cfg.model:
        pixels = cfg.model.preprocessor
        found = PixelFormat(pixels.pixel_mean, pixels.pixel_std, pixels.input_format)
        log_advice(weights_pixel_advice(cfg.train.init_checkpoint, found))
    if not args.eval_only:
        return _training(cfg, model, args.resume)
    names = class_names(dataset_names(cfg, "test"))
    checkpointer = FocalCheckpointer(model, cfg.train.output_dir, class_names=names, complete=True)
    _load_weights(cfg, checkpointer, args.resume)
    return lambda: {**evaluate(cfg, model), **evaluate_with_tta(cfg, model)}


def training_data(args: Namespace) -> TrainingData:
    """Return which datasets the config of ``args`` names, without registering any.

    Raises:
        ValueError: a mistake in the config.
    """
    return _training_data(read(args))


def _training_data(cfg: DictConfig) -> TrainingData:
    return TrainingData(
        OmegaConf.to_container(cfg.dataloader).get("register", []),
        dataset_names(cfg, "train"),
        dataset_names(cfg, "test"),
        OmegaConf.select(cfg, "dataloader.train.dataset.filter_empty", default=True),
    )


def read(args: Namespace) -> DictConfig:
    """Return the config with its overrides; ValueError for a missing piece or unknown key."""
    training = [] if args.eval_only else ["optimizer", "lr_multiplier"]
    sections = ["model", "dataloader", "train", *training]
    return load_lazy(args.config_file, args.opts, sections)


def _complete(cfg: DictConfig, eval_only: bool) -> DictConfig:
    """Fill in what the machine and the datasets decide."""
    cfg.train.device = usable_device("train.device", cfg.train.device)
    register_datasets(OmegaConf.to_container(cfg.dataloader).get("register", []))
    names = dataset_names(cfg, "test")
    if not eval_only:
        names = dataset_names(cfg, "train") + names
    check_datasets(names, "dataloader.register")
    if "num_classes" in cfg.model:
        agreed = agree_on_classes("model.num_classes", cfg.model.num_classes, names)
        cfg.model.num_classes = agreed
    if cfg.dataloader.get("tta_mapper") and "postprocessor" not in cfg.model:
        raise ValueError(
            "dataloader.tta_mapper: there is test-time augmentation for FocalRetinaNet only, whose "
            f"postprocessor merges; model is {cfg.model.get('_target_')}"
        )
    evaluator = cfg.dataloader.get("evaluator")
    if evaluator is not None and evaluator.get("_target_") is COCOEvaluator:
        # As in ``build_evaluator``; a dataset without a json needs the folder.
        defaults = {"output_dir": os.path.join(cfg.train.output_dir, "inference"), **FRESH_COCO}
        cfg.dataloader.evaluator = OmegaConf.merge(defaults, evaluator)
        cfg.dataloader.evaluator._target_ = coco_evaluator_class()
    return cfg


def dataset_names(cfg: DictConfig, split: str) -> list[str]:
    """Return those of ``dataloader.<split>``, "train" or "test"."""
    names = OmegaConf.select(cfg, f"dataloader.{split}.dataset.names") or []
    return [names] if isinstance(names, str) else list(names)


def _training(cfg: DictConfig, model: nn.Module, resume: bool) -> Callable[[], object]:
    cfg.optimizer.params.model = model
    optimizer = clip_gradients(build_part(cfg, "optimizer"), cfg.train.get("clip_gradients"))
    batch_key = "dataloader.train.total_batch_size"
    batch_size = OmegaConf.select(cfg, batch_key)
    if batch_size:
        check_batch_size(batch_key, batch_size)
    names = dataset_names(cfg, "train")
    with empty_data_errors(names, "dataloader.train.dataset.filter_empty"):
        exact_loader_config(cfg.dataloader.train)
        data_loader = build_part(cfg, "dataloader.train")
    options = TrainingOptions.of_lazy(cfg.train)
    options.check(
        batch_size=batch_size,
        eval_period=cfg.train.eval_period,
        has_test_set=bool(dataset_names(cfg, "test")),
    )
    model = distribute(model, **cfg.train.ddp)
    amp = cfg.train.amp
    trainer = TrainingLoop(
        model,
        data_loader,
        optimizer,
        dtype=autocast_dtype(amp.get("dtype", "float16")) if amp.enabled else None,
        accumulation_steps=options.accumulation_steps,
        output_dir=cfg.train.output_dir,
    )
    checkpointer = FocalCheckpointer(
        model,
        cfg.train.output_dir,
        class_names=class_names(names),
        trainer=trainer,
    )
    evaluations = [
        (cfg.train.eval_period, partial(evaluate, cfg)),
        # After training only: it costs many evaluations.
        (0, partial(evaluate_with_tta, cfg)),
    ]
    periodic = RunCheckpointer(checkpointer, **cfg.train.checkpointer)
    built = add_hooks(_hooks(cfg), options, periodic, evaluations)
    trainer.register_hooks(with_exact_resume(built, periodic))

    if batch_size and isinstance(optimizer, torch.optim.SGD):
        log_advice(learning_rate_advice("optimizer.lr", cfg.optimizer.lr, batch_key, batch_size))
    resumes = resume and checkpointer.has_checkpoint()
    if not cfg.train.init_checkpoint and not resumes:
        remedy = 'norm="BN" (or "GN") and freeze_at=0 in model.backbone'
        log_advice(frozen_norm_advice(model, "train.init_checkpoint", remedy))
    _load_weights(cfg, checkpointer, resume)
    return partial(trainer.train, trainer.iter + 1 if resumes else 0, cfg.train.max_iter)


def _load_weights(cfg: DictConfig, checkpointer: FocalCheckpointer, resume: bool) -> None:
    with weights_errors("train.init_checkpoint", cfg.train.init_checkpoint):
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)


def _hooks(cfg: DictConfig) -> list[hooks.HookBase]:
    """Return Detectron2's usual hooks, without checkpoints and evaluations."""
    train = cfg.train
    built = [hooks.IterationTimer(), hooks.LRScheduler(scheduler=build_part(cfg, "lr_multiplier"))]
    if comm.is_main_process():
        writers = resumable_writers(train.output_dir, train.max_iter)
        built.append(hooks.PeriodicWriter(writers, period=train.log_period))
    return built
