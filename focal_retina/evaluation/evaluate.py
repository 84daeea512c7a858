"""Evaluating the model of a run: metrics, losses on held-out images, test-time augmentation."""

import contextlib
import os
from collections.abc import Iterator

import torch
from detectron2.config import instantiate
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils import comm
from torch import nn

from focal_retina.acceleration.folding import folded_batch_norm
from focal_retina.data.workers import with_bound_workers
from focal_retina.distributed import without_ddp
from focal_retina.evaluation.box_evaluator import BoxEvaluator
from focal_retina.evaluation.evaluators import build_evaluator
from focal_retina.evaluation.validation_losses import validation_losses
from focal_retina.modeling.test_time_augmentation import FocalRetinaNetWithTTA
from focal_retina.settings.run_settings import RunSettings


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[nn.Module]:
    """Evaluate a model in eval mode with batch norm folded; restore it afterwards, to the bit.

    Args:
        model: on one device.
        dtype: what autocast computes in; None for no autocast.
    """
    was_training = model.training
    device_type = next(model.parameters()).device.type
    model.eval()
    try:
        with folded_batch_norm(model), torch.autocast(device_type, dtype, enabled=bool(dtype)):
            yield model
    finally:
        model.train(was_training)


def evaluate(settings: RunSettings, model: nn.Module) -> dict:
    """Return the metrics on the test datasets, and the losses there if the config asks for them.

    The metrics of several datasets are by dataset. Only the main process has any.
    """
    results = _metrics(settings, model, model)
    if settings.val_loss:
        loader = with_bound_workers(settings.parts.validation_loader())
        results.update(validation_losses(without_ddp(model), loader))
    return results


def evaluate_with_tta(settings: RunSettings, model: nn.Module) -> dict:
    """Return the metrics with test-time augmentation, by names that end in "_TTA"; {} if off."""
    mapper = settings.parts.tta_mapper()
    if mapper is None:
        return {}
    plain = without_ddp(model)
    augmented = FocalRetinaNetWithTTA(plain, mapper)
    results = _metrics(settings, plain, augmented, "_TTA")
    return {f"{name}_TTA": value for name, value in results.items()}


def _metrics(
    settings: RunSettings, model: nn.Module, detector: nn.Module, suffix: str = ""
) -> dict:
    """Evaluate ``detector``, which is the model or calls it; write into a folder of this suffix."""
    results = {}
    with evaluation_mode(model, settings.test_dtype):
        for name, build_loader in settings.parts.test_loaders().items():
            loader = with_bound_workers(build_loader())
            evaluator = _evaluator(settings, name, suffix)
            results[name] = inference_on_dataset(detector, loader, evaluator)
            if comm.is_main_process():
                print_csv_format(results[name])
    return dict(next(iter(results.values()))) if len(results) == 1 else results


def _evaluator(settings: RunSettings, name: str, suffix: str) -> DatasetEvaluator:
    folder = os.path.join(settings.output_dir, "inference")
    node, limit = settings.parts.evaluator(), settings.detections_per_image
    if node is None:
        return build_evaluator(name, folder + suffix, limit)
    arguments = dict(node)
    if arguments.get("_target_") is COCOEvaluator:
        defaults = {"output_dir": folder, "max_dets_per_image": max(limit, 100)}
        arguments = {**defaults, **arguments, "_target_": BoxEvaluator}
    if arguments.get("output_dir"):
        arguments["output_dir"] += suffix
    return instantiate(arguments)
