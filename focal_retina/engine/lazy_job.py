"""The job of a LazyConfig: that of a YAML config, from the parts that the config names."""

import logging
import os
import re
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from detectron2.config import instantiate
from detectron2.engine import default_setup, default_writers, hooks
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.images import NamingMapper
from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.engine.advice import (
    frozen_norm_advice,
    learning_rate_advice,
    log_advice,
    weights_pixel_advice,
)
from focal_retina.engine.checks import (
    check_datasets,
    check_writable,
    usable_device,
    weights_errors,
)
from focal_retina.engine.evaluation import FRESH_COCO, coco_evaluator_class, evaluation_mode
from focal_retina.engine.lazy_config import load_lazy
from focal_retina.engine.trainer import (
    autocast_dtype,
    build_loop,
    check_batch_size,
    distribute,
)
from focal_retina.modeling.backbones import PixelFormat

logger = logging.getLogger(__name__)

# The wording of Python and of Detectron2's ``instantiate``.
_MISTAKEN_CALL = re.compile(
    r"\(\) (got an unexpected keyword|missing \d+ required)|does not define a callable"
)


def load(args: Namespace) -> DictConfig:
    """Return the complete config of ``args``, its datasets registered.

    Raises:
        ValueError: the first contradiction or missing piece.
    """
    return _complete(_read(args), args.eval_only)


def prepare(args: Namespace) -> Callable[[], object]:
    """Build all that the config asks for, and return the function that trains or evaluates.

    Raises:
        ValueError: as in :func:`load`, or from a part of Detectron2 or focal_retina.
    """
    cfg = _read(args)
    check_writable("train.output_dir", cfg.train.output_dir)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="focal_retina")
    _complete(cfg, args.eval_only)
    default_setup(cfg, args)
    model = _build(cfg, "model").to(cfg.train.device)
    logger.info(f"Model:\n{model}")
    if "preprocessor" in cfg.model:
        pixels = cfg.model.preprocessor
        found = PixelFormat(pixels.pixel_mean, pixels.pixel_std, pixels.input_format)
        log_advice(weights_pixel_advice(cfg.train.init_checkpoint, found))
    if not args.eval_only:
        return _training(cfg, model, args.resume)
    names = class_names(_dataset_names(cfg, "test"))
    checkpointer = FocalCheckpointer(model, cfg.train.output_dir, class_names=names, complete=True)
    _load_weights(cfg, checkpointer, args.resume)
    return partial(_evaluate, cfg, model)


def _read(args: Namespace) -> DictConfig:
    training = [] if args.eval_only else ["optimizer", "lr_multiplier"]
    sections = ["model", "dataloader", "train", *training]
    return load_lazy(args.config_file, args.opts, sections)


def _complete(cfg: DictConfig, eval_only: bool) -> DictConfig:
    """Fill in what the machine and the datasets decide."""
    cfg.train.device = usable_device("train.device", cfg.train.device)
    register_datasets(OmegaConf.to_container(cfg.dataloader).get("register", []))
    names = _dataset_names(cfg, "test")
    if not eval_only:
        names = _dataset_names(cfg, "train") + names
    check_datasets(names, "dataloader.register")
    if "num_classes" in cfg.model:
        agreed = agree_on_classes("model.num_classes", cfg.model.num_classes, names)
        cfg.model.num_classes = agreed
    evaluator = cfg.dataloader.get("evaluator")
    if evaluator is not None and evaluator.get("_target_") is COCOEvaluator:
        # As in ``build_evaluator``; a dataset without a json needs the folder.
        defaults = {"output_dir": os.path.join(cfg.train.output_dir, "inference"), **FRESH_COCO}
        cfg.dataloader.evaluator = OmegaConf.merge(defaults, evaluator)
        cfg.dataloader.evaluator._target_ = coco_evaluator_class()
    return cfg


def _dataset_names(cfg: DictConfig, split: str) -> list[str]:
    names = OmegaConf.select(cfg, f"dataloader.{split}.dataset.names") or []
    return [names] if isinstance(names, str) else list(names)


def _training(cfg: DictConfig, model: nn.Module, resume: bool) -> Callable[[], object]:
    cfg.optimizer.params.model = model
    optimizer = _build(cfg, "optimizer")
    batch_key = "dataloader.train.total_batch_size"
    batch_size = OmegaConf.select(cfg, batch_key)
    if batch_size:
        check_batch_size(batch_key, batch_size)
    data_loader = _build(cfg, "dataloader.train")
    model = distribute(model, **cfg.train.ddp)
    amp = cfg.train.amp
    trainer = build_loop(
        model, data_loader, optimizer, amp.get("dtype", "float16") if amp.enabled else None
    )
    checkpointer = FocalCheckpointer(
        model,
        cfg.train.output_dir,
        class_names=class_names(_dataset_names(cfg, "train")),
        trainer=trainer,
    )
    trainer.register_hooks(_hooks(cfg, model, checkpointer))

    if batch_size and isinstance(optimizer, torch.optim.SGD):
        log_advice(learning_rate_advice("optimizer.lr", cfg.optimizer.lr, batch_key, batch_size))
    resumes = resume and checkpointer.has_checkpoint()
    if not cfg.train.init_checkpoint and not resumes:
        remedy = 'norm="BN" (or "GN") and freeze_at=0 in model.backbone'
        log_advice(frozen_norm_advice(model, "train.init_checkpoint", remedy))
    _load_weights(cfg, checkpointer, resume)
    return partial(trainer.train, trainer.iter + 1 if resumes else 0, cfg.train.max_iter)


def _build(cfg: DictConfig, key: str):
    """Return what a node of the config makes; a mapper in it will name images it cannot read.

    Raises:
        ValueError: an argument is unknown or missing; also whatever the parts raise.
    """
    node = OmegaConf.select(cfg, key)
    if not isinstance(node, DictConfig):
        return instantiate(node)
    arguments = {name: node[name] for name in node}
    try:
        if isinstance(arguments.get("mapper"), DictConfig):
            arguments["mapper"] = NamingMapper(instantiate(node.mapper))
        return instantiate(arguments)
    except (AssertionError, ImportError, TypeError) as error:
        is_mistake = isinstance(error, ImportError) or _MISTAKEN_CALL.search(str(error))
        if not is_mistake:
            raise
        raise ValueError(f"{key}: {error}") from error


def _load_weights(cfg: DictConfig, checkpointer: FocalCheckpointer, resume: bool) -> None:
    with weights_errors("train.init_checkpoint", cfg.train.init_checkpoint):
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)


def _hooks(
    cfg: DictConfig, model: nn.Module, checkpointer: FocalCheckpointer
) -> list[hooks.HookBase]:
    """Return Detectron2's usual hooks; the writers come last, to see the others' results."""
    train = cfg.train
    on_every_process = [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=_build(cfg, "lr_multiplier")),
    ]
    evaluation = hooks.EvalHook(train.eval_period, lambda: _evaluate(cfg, model))
    if not comm.is_main_process():
        return [*on_every_process, evaluation]
    return [
        *on_every_process,
        hooks.PeriodicCheckpointer(checkpointer, **train.checkpointer),
        evaluation,
        hooks.PeriodicWriter(
            default_writers(train.output_dir, train.max_iter), period=train.log_period
        ),
    ]


def _evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    if "evaluator" not in cfg.dataloader:
        return {}
    loader, evaluator = _build(cfg, "dataloader.test"), _build(cfg, "dataloader.evaluator")
    amp = cfg.train.amp
    dtype = amp.get("dtype", "float16") if amp.get("test") else None
    with evaluation_mode(model, dtype and autocast_dtype(dtype, next(model.parameters()).device)):
        results = inference_on_dataset(model, loader, evaluator)
    print_csv_format(results)
    return results
