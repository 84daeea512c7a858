"""A trained model from its config, YAML or LazyConfig, and what that says of its inputs."""

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.mapper import build_mapper
from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.engine import lazy_job
from focal_retina.evaluation import lazy_evaluation
from focal_retina.settings.checks import usable_device, weights_errors
from focal_retina.settings.lazy_parts import build_part
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.training import trainer


class Detector(NamedTuple):
    """A model with its weights, and what it takes to give it pictures and name what it finds."""

    model: nn.Module  # in eval mode
    cfg: CfgNode | DictConfig
    image_format: str  # "BGR" or "RGB"
    augmentations: T.AugmentationList  # the evaluation's
    dtype: torch.dtype | None  # what autocast computes in; None for no autocast
    class_names: list[str]  # their numbers where no dataset of the config states them
    category_ids: list[int]  # in the dataset; from 1 on where it is not known


def load_detector(config_file: str, weights: str | None, opts: Sequence[str]) -> Detector:
    """Build a config's model and load its weights.

    Args:
        config_file: YAML, or Python for a LazyConfig; of its datasets only the classes are used.
        weights: in the place of the config's.
        opts: ``KEY VALUE KEY VALUE ...``, for a LazyConfig ``key=value ...``.

    Raises:
        ValueError: as ``load_yaml`` and ``lazy_job.read`` do; no weights, or unreadable ones.
    """
    load = _from_lazy if config_file.endswith(".py") else _from_yaml
    return load(config_file, weights, opts)


def _from_yaml(config_file: str, weights: str | None, opts: Sequence[str]) -> Detector:
    cfg = load_yaml(config_file, opts)
    weights = _stated(weights or cfg.MODEL.WEIGHTS, config_file, "MODEL.WEIGHTS")
    cfg.MODEL.DEVICE = usable_device("MODEL.DEVICE", cfg.MODEL.DEVICE)
    register_datasets(cfg.DATASETS.REGISTER)
    datasets = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
    retinanet = cfg.MODEL.RETINANET
    retinanet.NUM_CLASSES = agree_on_classes(
        "MODEL.RETINANET.NUM_CLASSES", retinanet.NUM_CLASSES, datasets
    )
    model = build_model(cfg)
    _load_weights(model, datasets, "MODEL.WEIGHTS", weights)
    return Detector(
        model.eval(),
        cfg,
        cfg.INPUT.FORMAT,
        build_mapper(cfg, is_train=False).augmentations,
        trainer.evaluation_dtype(cfg),
        *_classes(datasets, retinanet.NUM_CLASSES),
    )


def _from_lazy(config_file: str, weights: str | None, opts: Sequence[str]) -> Detector:
    cfg = lazy_job.read(Namespace(config_file=config_file, opts=list(opts), eval_only=True))
    key = "train.init_checkpoint"
    weights = _stated(weights or cfg.train.init_checkpoint, config_file, key)
    cfg.train.device = usable_device("train.device", cfg.train.device)
    register_datasets(OmegaConf.to_container(cfg.dataloader).get("register", []))
    datasets = [name for x in ("test", "train") for name in lazy_job.dataset_names(cfg, x)]
    if "num_classes" in cfg.model:
        cfg.model.num_classes = agree_on_classes(
            "model.num_classes", cfg.model.num_classes, datasets
        )
    mapper = OmegaConf.select(cfg, "dataloader.test.mapper")
    if mapper is None or "augmentations" not in mapper or "image_format" not in mapper:
        raise ValueError(
            f"{config_file}: dataloader.test.mapper has no augmentations or no image_format, which "
            "say how to show pictures to the model"
        )
    model = build_part(cfg, "model").to(cfg.train.device)
    _load_weights(model, datasets, key, weights)
    return Detector(
        model.eval(),
        cfg,
        mapper.image_format,
        T.AugmentationList(list(instantiate(mapper.augmentations))),
        lazy_evaluation.evaluation_dtype(cfg),
        *_classes(datasets, cfg.model.get("num_classes", 0)),
    )


def _stated(weights: str, config_file: str, key: str) -> str:
    if not weights:
        raise ValueError(f"{config_file} has no {key}; name the model's weights")
    return str(weights)


def _load_weights(model: nn.Module, datasets: Sequence[str], key: str, weights: str) -> None:
    with weights_errors(key, weights):
        FocalCheckpointer(model, class_names=class_names(datasets), complete=True).load(weights)


def _classes(datasets: Sequence[str], num_classes: int) -> tuple[list[str], list[int]]:
    """Return the names of the classes and their ids in the dataset."""
    names = class_names(datasets) or [str(i) for i in range(num_classes)]
    return names, _category_ids(datasets) or list(range(1, len(names) + 1))


def _category_ids(datasets: Sequence[str]) -> list[int] | None:
    for name in datasets:
        metadata = MetadataCatalog.get(name)
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is not None:
            return sorted(ids, key=ids.get)
        json_file = metadata.get("json_file")
        if json_file and PathManager.isfile(json_file):  # one of ours, not yet loaded
            with PathManager.open(json_file) as file:
                return sorted(category["id"] for category in json.load(file)["categories"])
    return None
