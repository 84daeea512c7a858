"""Configs that train in seconds on a few drawn images, what runs them, and what they wrote."""

import json
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


def write_jobs(folder: Path) -> Path:
    """Write a few images, ``tiny.yaml`` and ``tiny.py`` into the folder; return it."""
    splits = {split: write_shapes(folder, split, 4, image_size=64) for split in ("train", "val")}
    for name, source in (("tiny.yaml", "tiny.yaml"), ("tiny.py", "tiny.py.template")):
        template = Template(Path(__file__).with_name(source).read_text())
        (folder / name).write_text(template.substitute(root=ROOT, **splits))
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
    """Do what ``train_net.py`` does, in this process; leave no datasets and log handlers behind."""
    try:
        with catalogs_restored():
            main(argument_parser().parse_args([str(a) for a in arguments]))
    finally:
        remove_log_handlers()


def metrics(folder: Path) -> list[dict]:
    """Return the lines of ``metrics.json``."""
    return [json.loads(line) for line in (folder / "metrics.json").open()]


def detections(folder: Path, inference: str = "inference") -> list[dict]:
    """Return what an evaluation wrote of its detections."""
    return json.loads((folder / inference / "coco_instances_results.json").read_text())


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
