"""Configs that train in seconds on a few drawn images, and what runs them."""

import logging
from contextlib import contextmanager
from pathlib import Path
from string import Template

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from focal_retina.data.shapes import write_shapes
from focal_retina.engine import argument_parser, job, main
from focal_retina.settings.run_settings import RunSettings

ROOT = Path(__file__).parents[2]

LAZY = """
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec

_base = LazyConfig.load("{root}/configs/focal_retinanet_R_50_FPN_1x.py")
model, dataloader, optimizer = _base.model, _base.dataloader, _base.optimizer
lr_multiplier, train = _base.lr_multiplier, _base.train

_bottom_up = model.backbone.bottom_up
_bottom_up.stem.norm = _bottom_up.stages.norm = "BN"
_bottom_up.stages.depth = 18
del _bottom_up.stages.stride_in_1x1
_bottom_up.freeze_at = 0
model.backbone.top_block.in_channels = 512
model.backbone.out_channels = 16
model.head.input_shape = [ShapeSpec(channels=16)] * 5
model.head.conv_dims = [16]

dataloader.register = [
    ["tiny_train", "{train}/instances.json", "{train}/images"],
    ["tiny_val", "{val}/instances.json", "{val}/images"],
]
dataloader.train.dataset.names = "tiny_train"
dataloader.test.dataset.names = "tiny_val"
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.train.mapper.augmentations[0].short_edge_length = [64]
dataloader.test.mapper.augmentations[0].short_edge_length = 64
optimizer.lr = 0.00125
train.init_checkpoint = ""
train.max_iter = 2
train.seed = 1
"""


def write_jobs(folder: Path) -> Path:
    """Write a few images, ``tiny.yaml`` and ``tiny.py`` into the folder; return it."""
    splits = {split: write_shapes(folder, split, 4, image_size=64) for split in ("train", "val")}
    yaml = Template(Path(__file__).with_name("tiny.yaml").read_text())
    (folder / "tiny.yaml").write_text(yaml.substitute(root=ROOT, **splits))
    (folder / "tiny.py").write_text(LAZY.format(root=ROOT, **splits))
    return folder


def write_random_weights(config_file: Path) -> Path:
    """Write a model's initial weights, always the same, beside its config; return the file."""
    with catalogs_restored():
        settings = job.load(str(config_file), eval_only=True)
        torch.manual_seed(0)
        model = settings.parts.model()
    path = config_file.with_name("weights.pth")
    torch.save({"model": model.state_dict()}, path)
    return path


def options(kind: str, **values) -> list[str]:
    """Return the options that set fields of ``RunSettings`` for a config of kind "yaml" or "py"."""
    settings = RunSettings(CfgNode() if kind == "yaml" else DictConfig({}), None)
    pairs = [(settings.key(name), str(value)) for name, value in values.items()]
    return [x for pair in pairs for x in pair] if kind == "yaml" else list(map("=".join, pairs))


def run_here(*arguments) -> None:
    """Do what ``train_net.py`` does, in this process, and leave no log handlers behind."""
    try:
        main(argument_parser().parse_args([str(a) for a in arguments]))
    finally:
        remove_log_handlers()


def remove_log_handlers() -> None:
    """Undo Detectron2's set-up of loggers."""
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "focal_retina"):
        logging.getLogger(name).handlers.clear()


@contextmanager
def catalogs_restored():
    """Forget the datasets registered within, so that others may have their names."""
    before = [(catalog, set(catalog)) for catalog in (DatasetCatalog, MetadataCatalog)]
    try:
        yield
    finally:
        for catalog, names in before:
            for name in set(catalog) - names:
                catalog.remove(name)
