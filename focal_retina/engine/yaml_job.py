"""The job of a YAML config, through Detectron2's ``DefaultTrainer``."""

from argparse import Namespace
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.checks.training_data import TrainingData, check_training_data
from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.evaluation.evaluators import evaluator_type
from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings.advice import (
    frozen_norm_advice,
    ignored_keys_advice,
    learning_rate_advice,
    log_advice,
    weights_pixel_advice,
)
from focal_retina.settings.checks import (
    check_datasets,
    check_writable,
    usable_device,
    weights_errors,
)
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.training.trainer import FocalTrainer


def load(args: Namespace) -> CfgNode:
    """Return the complete config of ``args``, its datasets registered.

    Raises:
        ValueError: the first contradiction or missing piece.
    """
    return _complete(load_yaml(args.config_file, args.opts, args.trust_config), args.eval_only)


def prepare(args: Namespace) -> Callable[[], object]:
    """Build all that the config asks for, and return the function that trains or evaluates.

    Raises:
        ValueError: as in :func:`load`, or a part cannot be built from the config.
    """
    cfg = load_yaml(args.config_file, args.opts, args.trust_config)
    check_writable("OUTPUT_DIR", cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="focal_retina")
    _complete(cfg, args.eval_only)
    default_setup(cfg, args)
    log_advice(ignored_keys_advice(cfg))
    pixels = PixelFormat(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
    log_advice(weights_pixel_advice(cfg.MODEL.WEIGHTS, pixels))
    if not args.eval_only:
        check_training_data(_training_data(cfg), args.config_file, args.opts)
    return _evaluation(cfg, args.resume) if args.eval_only else _training(cfg, args.resume)


def training_data(args: Namespace) -> TrainingData:
    """Return which datasets the config of ``args`` names, without registering any.

    Raises:
        ValueError: as ``load_yaml``.
    """
    return _training_data(load_yaml(args.config_file, args.opts, args.trust_config))


def _training_data(cfg: CfgNode) -> TrainingData:
    data = cfg.DATASETS
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return TrainingData(data.REGISTER, data.TRAIN, data.TEST, filter_empty)


def _complete(cfg: CfgNode, eval_only: bool) -> CfgNode:
    """Fill in what the machine and the datasets decide."""
    if cfg.TEST.AUG.ENABLED and cfg.MODEL.META_ARCHITECTURE != "FocalRetinaNet":
        raise ValueError(
            "TEST.AUG.ENABLED: there is test-time augmentation for MODEL.META_ARCHITECTURE "
            f"FocalRetinaNet only, not for {cfg.MODEL.META_ARCHITECTURE}"
        )
    cfg.MODEL.DEVICE = usable_device("MODEL.DEVICE", cfg.MODEL.DEVICE)
    register_datasets(cfg.DATASETS.REGISTER)
    needed = "TEST" if eval_only else "TRAIN"
    if not cfg.DATASETS[needed]:
        raise ValueError(f"DATASETS.{needed} is empty")
    names = cfg.DATASETS.TEST if eval_only else cfg.DATASETS.TRAIN + cfg.DATASETS.TEST
    check_datasets(names, "DATASETS.REGISTER")
    for name in cfg.DATASETS.TEST:  # now rather than after training
        evaluator_type(name)
    head = "RETINANET" if "RetinaNet" in cfg.MODEL.META_ARCHITECTURE else "ROI_HEADS"
    key = f"MODEL.{head}.NUM_CLASSES"
    cfg.MODEL[head].NUM_CLASSES = agree_on_classes(key, cfg.MODEL[head].NUM_CLASSES, names)
    cfg.freeze()
    return cfg


def _evaluation(cfg: CfgNode, resume: bool) -> Callable[[], object]:
    model = FocalTrainer.build_model(cfg)
    names = class_names(cfg.DATASETS.TEST)
    checkpointer = FocalCheckpointer(model, cfg.OUTPUT_DIR, class_names=names, complete=True)
    with weights_errors("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS):
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)

    def evaluate():
        results = FocalTrainer.test(cfg, model)
        if cfg.TEST.AUG.ENABLED:
            results.update(FocalTrainer.test_with_tta(cfg, model))
        if comm.is_main_process():
            verify_results(cfg, results)
        return results

    return evaluate


def _training(cfg: CfgNode, resume: bool) -> Callable[[], object]:
    trainer = FocalTrainer(cfg)
    solver = cfg.SOLVER
    if "RetinaNet" in cfg.MODEL.META_ARCHITECTURE:
        log_advice(
            learning_rate_advice(
                "SOLVER.BASE_LR", solver.BASE_LR, "SOLVER.IMS_PER_BATCH", solver.IMS_PER_BATCH
            )
        )
    if not cfg.MODEL.WEIGHTS and not (resume and trainer.checkpointer.has_checkpoint()):
        remedy = "MODEL.RESNETS.NORM BN (or GN) and MODEL.BACKBONE.FREEZE_AT 0"
        log_advice(frozen_norm_advice(trainer.model, "MODEL.WEIGHTS", remedy))
    with weights_errors("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS):
        trainer.resume_or_load(resume=resume)
    return trainer.train
