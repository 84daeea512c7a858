"""Detectron2's trainer, also on several CPU processes, and with the options of ``options``."""

import os
import weakref
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import DatasetMapperTTA
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.images import NamingMapper
from focal_retina.data.loader import build_train_loader
from focal_retina.data.mapper import build_mapper
from focal_retina.data.register import class_names
from focal_retina.evaluation.evaluators import build_evaluator, evaluation_mode
from focal_retina.evaluation.validation_losses import build_validation_loader, validation_losses
from focal_retina.modeling.test_time_augmentation import FocalRetinaNetWithTTA
from focal_retina.settings.checks import empty_data_errors
from focal_retina.settings.options import TrainingOptions, check_clip_type
from focal_retina.settings.precision import autocast_dtype
from focal_retina.training.hooks import add_hooks
from focal_retina.training.loop import EndableTrainer, TrainingLoop
from focal_retina.training.resume import with_exact_resume
from focal_retina.training.run_checkpointer import RunCheckpointer
from focal_retina.training.writers import resumable_writers


class FocalTrainer(DefaultTrainer, EndableTrainer):
    """Detectron2's ``DefaultTrainer``, built from the same config.

    It differs in that the processes need no GPU, in the loop (``TrainingLoop``) and the hooks of
    ``TrainingOptions``, in that it evaluates and names images that cannot be read, in that TEST.AUG
    is for ``FocalRetinaNet``, and in that a run can be resumed exactly (see ``resume``).
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        check_batch_size("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH)
        self.options = TrainingOptions.of_yaml(cfg)
        self.options.check(
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            eval_period=cfg.TEST.EVAL_PERIOD,
            has_test_set=len(cfg.DATASETS.TEST) > 0,
        )
        if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
            check_clip_type("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)

        model = distribute(model, broadcast_buffers=False)
        amp = cfg.SOLVER.AMP
        self._trainer = TrainingLoop(
            model,
            data_loader,
            optimizer,
            dtype=autocast_dtype(amp.get("DTYPE", "float16")) if amp.ENABLED else None,
            accumulation_steps=self.options.accumulation_steps,
            output_dir=cfg.OUTPUT_DIR,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = FocalCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            class_names=class_names(cfg.DATASETS.TRAIN),
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[hooks.HookBase]:
        usual = [h for h in super().build_hooks() if not isinstance(h, hooks.EvalHook)]
        evaluations = [(self.cfg.TEST.EVAL_PERIOD, self._evaluate)]
        if self.cfg.TEST.AUG.ENABLED:
            # After training only, as in Detectron2's train_net.py: it costs many evaluations.
            evaluations.append((0, partial(self.test_with_tta, self.cfg)))
        solver = self.cfg.SOLVER
        periodic = RunCheckpointer(
            self.checkpointer,
            solver.CHECKPOINT_PERIOD,
            max_to_keep=solver.get("CHECKPOINT_MAX_TO_KEEP"),
        )
        built = add_hooks(usual, self.options, periodic, evaluations)
        return with_exact_resume(built, periodic)

    def _evaluate(self, model: nn.Module) -> dict:
        results = self.test(self.cfg, model)
        if self.options.val_loss:
            results.update(validation_losses(model, build_validation_loader(self.cfg)))
        self._last_eval_results = results
        return results

    def build_writers(self) -> list[EventWriter]:
        return resumable_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        mapper = NamingMapper(build_mapper(cfg, is_train=True))
        with empty_data_errors(cfg.DATASETS.TRAIN, "DATALOADER.FILTER_EMPTY_ANNOTATIONS"):
            return build_train_loader(cfg, mapper=mapper)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        mapper = NamingMapper(build_mapper(cfg, is_train=False))
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        dtype = evaluation_dtype(cfg)
        with evaluation_mode(model, dtype):
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """Evaluate a ``FocalRetinaNet`` with TEST.AUG; the results' names end in "_TTA"."""
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        evaluators = [build_evaluator(name, folder) for name in cfg.DATASETS.TEST]
        plain = without_ddp(model)
        with evaluation_mode(plain, evaluation_dtype(cfg)):
            augmented = FocalRetinaNetWithTTA(plain, DatasetMapperTTA(cfg))
            results = super().test(cfg, augmented, evaluators)
        return {f"{name}_TTA": value for name, value in results.items()}


def evaluation_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return what autocast computes in at test; None unless TEST.AMP.ENABLED."""
    if not cfg.TEST.get("AMP", {}).get("ENABLED", False):
        return None
    return autocast_dtype(cfg.SOLVER.AMP.DTYPE)


def check_batch_size(key: str, batch_size: int) -> None:
    """Raise a ValueError unless the batch divides evenly among the processes."""
    if batch_size % comm.get_world_size():
        raise ValueError(
            f"{key} {batch_size} does not divide among {comm.get_world_size()} processes: "
            f"set {key} to a multiple of {comm.get_world_size()}"
        )


def distribute(model: nn.Module, **kwargs) -> nn.Module:
    """Wrap the model for data-parallel training where there is more than one process.

    Detectron2's ``create_ddp_model`` takes a CPU for a GPU unless it is told otherwise.
    """
    if next(model.parameters()).device.type == "cpu":
        kwargs["device_ids"] = None
    return create_ddp_model(model, **kwargs)


def without_ddp(model: nn.Module) -> nn.Module:
    """Undo :func:`distribute`."""
    return model.module if isinstance(model, DistributedDataParallel) else model
