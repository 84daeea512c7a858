"""Milliseconds per image of a trained row (Table 1e, Figure 2)."""

import itertools
import statistics
from functools import partial
from pathlib import Path

import torch
from detectron2.data import build_detection_test_loader

from experiments.machine import seconds_of
from experiments.paper.trained_model import load_config, load_model
from focal_retina.evaluation.evaluate import evaluation_mode

NUM_IMAGES, NUM_WARM_UP = 20, 5


@torch.no_grad()
def milliseconds_per_image(config_file: Path, weights: Path) -> float:
    """Return the median time of detection in one image, without reading it.

    The images are the first ones of the test dataset. Some runs come before, to warm up.
    """
    opts = ["DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", str(weights)]
    cfg = load_config(str(config_file), opts)
    model = load_model(cfg)
    loader = build_detection_test_loader(cfg, cfg.DATASETS.TEST[0])
    batches = list(itertools.islice(loader, NUM_IMAGES))
    with evaluation_mode(model):
        for batch in batches[:NUM_WARM_UP]:
            model(batch)
        times = [seconds_of(partial(model, batch), model.device) for batch in batches]
    return statistics.median(times) * 1e3
