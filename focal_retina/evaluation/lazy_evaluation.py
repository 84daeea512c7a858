"""The evaluations of a LazyConfig's job: of the model, and with test-time augmentation."""

import torch
from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset, print_csv_format
from omegaconf import DictConfig
from torch import nn

from focal_retina.evaluation.evaluators import evaluation_mode
from focal_retina.evaluation.validation_losses import lazy_validation_loader, validation_losses
from focal_retina.modeling.test_time_augmentation import FocalRetinaNetWithTTA
from focal_retina.settings.lazy_parts import build_part
from focal_retina.settings.precision import autocast_dtype
from focal_retina.training.trainer import without_ddp


def evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    """Return the results of ``dataloader.evaluator``, if any, and the losses of train.val_loss."""
    has_evaluator = cfg.dataloader.get("evaluator") is not None
    evaluator = build_part(cfg, "dataloader.evaluator") if has_evaluator else None
    results = _results(cfg, model, model, evaluator) if has_evaluator else {}
    if cfg.train.get("val_loss"):
        results.update(
            validation_losses(without_ddp(model), lazy_validation_loader(cfg.dataloader))
        )
    return results


def evaluate_with_tta(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate on what ``dataloader.tta_mapper`` makes; the results' names end in "_TTA"."""
    evaluator, tta_mapper = (cfg.dataloader.get(k) for k in ("evaluator", "tta_mapper"))
    if evaluator is None or tta_mapper is None:
        return {}
    arguments = dict(evaluator)
    if arguments.get("output_dir"):
        arguments["output_dir"] += "_TTA"
    plain = without_ddp(model)
    augmented = FocalRetinaNetWithTTA(plain, instantiate(tta_mapper))
    results = _results(cfg, plain, augmented, instantiate(arguments))
    return {f"{name}_TTA": value for name, value in results.items()}


def evaluation_dtype(cfg: DictConfig) -> torch.dtype | None:
    """Return what autocast computes in at test; None unless ``train.amp.test``."""
    amp = cfg.train.amp
    return autocast_dtype(amp.get("dtype", "float16")) if amp.get("test") else None


def _results(cfg: DictConfig, model: nn.Module, detector: nn.Module, evaluator) -> dict:
    """Evaluate ``detector``, which is the model or calls it."""
    with evaluation_mode(model, evaluation_dtype(cfg)):
        results = inference_on_dataset(detector, build_part(cfg, "dataloader.test"), evaluator)
    print_csv_format(results)
    return results
