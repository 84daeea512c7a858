"""Milliseconds per image of a trained row (Table 1e, Figure 2)."""

import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.data import build_detection_test_loader
from detectron2.modeling import build_model

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.engine import yaml_job
from focal_retina.evaluation.evaluators import evaluation_mode

NUM_IMAGES, NUM_WARM_UP = 20, 5


@torch.no_grad()
def milliseconds_per_image(config_file: Path, weights: Path) -> float:
    """Return the median time of detection, batch 1, without reading the image.

    The first images of the test dataset, after a warm-up; a GPU is waited for.
    """
    args = Namespace(
        config_file=str(config_file),
        opts=["DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", str(weights)],
        trust_config=False,
        eval_only=True,
    )
    cfg = yaml_job.load(args)
    model = build_model(cfg)
    FocalCheckpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    loader = build_detection_test_loader(cfg, cfg.DATASETS.TEST[0])
    batches = list(itertools.islice(loader, NUM_IMAGES))
    with evaluation_mode(model):
        for batch in batches[:NUM_WARM_UP]:
            model(batch)
        seconds = [_seconds(lambda batch=batch: model(batch), model.device) for batch in batches]
    return statistics.median(seconds) * 1e3


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
