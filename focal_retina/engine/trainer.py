"""Detectron2's trainer, also on several CPU processes and in bfloat16."""

import os
import time
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, TrainerBase, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import DatasetMapperTTA
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.images import NamingMapper
from focal_retina.data.register import class_names
from focal_retina.engine.evaluation import build_evaluator, evaluation_mode
from focal_retina.modeling.test_time_augmentation import FocalRetinaNetWithTTA


class FocalTrainer(DefaultTrainer):
    """Detectron2's ``DefaultTrainer``, built from the same config.

    It differs in that the processes need no GPU, in SOLVER.AMP on the CPU and in bfloat16, in
    that it evaluates, in that it names images that cannot be read, and in that TEST.AUG is for
    ``FocalRetinaNet``.
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        check_batch_size("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)

        model = distribute(model, broadcast_buffers=False)
        amp = cfg.SOLVER.AMP
        self._trainer = build_loop(
            model, data_loader, optimizer, amp.get("DTYPE", "float16") if amp.ENABLED else None
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
        built = super().build_hooks()
        if self.cfg.TEST.AUG.ENABLED:
            # After training only, as in Detectron2's train_net.py: it costs many evaluations.
            # Before the writers, which come last, to be written by them.
            evaluation = hooks.EvalHook(0, lambda: self.test_with_tta(self.cfg, self.model))
            built.insert(-1 if comm.is_main_process() else len(built), evaluation)
        return built

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        return build_detection_train_loader(cfg, mapper=NamingMapper(DatasetMapper(cfg, True)))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        mapper = NamingMapper(DatasetMapper(cfg, False))
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        dtype = evaluation_dtype(cfg, next(model.parameters()).device)
        with evaluation_mode(model, dtype):
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """Evaluate a ``FocalRetinaNet`` with TEST.AUG; the results' names end in "_TTA"."""
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        evaluators = [build_evaluator(name, folder) for name in cfg.DATASETS.TEST]
        plain = model.module if isinstance(model, DistributedDataParallel) else model
        with evaluation_mode(plain, evaluation_dtype(cfg, next(model.parameters()).device)):
            augmented = FocalRetinaNetWithTTA(plain, DatasetMapperTTA(cfg))
            results = super().test(cfg, augmented, evaluators)
        return {f"{name}_TTA": value for name, value in results.items()}


def evaluation_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """Return what autocast computes in at test; None unless TEST.AMP.ENABLED."""
    if not cfg.TEST.get("AMP", {}).get("ENABLED", False):
        return None
    return autocast_dtype(cfg.SOLVER.AMP.DTYPE, device)


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


def build_loop(
    model: nn.Module, data_loader, optimizer: torch.optim.Optimizer, dtype: str | None
) -> SimpleTrainer:
    """Return Detectron2's training loop.

    Args:
        dtype: what autocast computes in, "float16" (with Detectron2's loss scaling) or
            "bfloat16"; None for no autocast. See :func:`autocast_dtype`.
    """
    if dtype is None:
        return SimpleTrainer(model, data_loader, optimizer)
    trainers = {torch.float16: AMPTrainer, torch.bfloat16: BFloat16Trainer}
    trainer = trainers[autocast_dtype(dtype, next(model.parameters()).device)]
    return trainer(model, data_loader, optimizer)


def autocast_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called "float16" or "bfloat16"; the CPU, which lacks the former, takes
    the latter. ValueError for another name.
    """
    if name not in ("float16", "bfloat16"):
        raise ValueError(f"mixed precision is float16 or bfloat16, not {name!r}")
    return torch.bfloat16 if device.type == "cpu" else getattr(torch, name)


class BFloat16Trainer(SimpleTrainer):
    """Forward pass under bfloat16 autocast, on any device.

    bfloat16 has the range of float32: unlike float16 it needs no loss scaling.
    """

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(next(self.model.parameters()).device.type, torch.bfloat16):
            losses = self.model(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        if hasattr(self, "after_backward"):  # Detectron2 0.6 has no such hook
            self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()
