"""A trained model from its config, and what that says of its inputs and classes."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.register import class_names
from focal_retina.errors import UserError
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.load import load_settings


class Detector(NamedTuple):
    """A model with its weights, and what it takes to give it pictures and name what it finds."""

    model: nn.Module  # in eval mode
    cfg: CfgNode | DictConfig
    image_format: str  # "BGR" or "RGB"
    augmentations: T.AugmentationList  # the evaluation's
    dtype: torch.dtype | None  # what autocast computes in; None for no autocast
    class_names: list[str]  # their numbers where no dataset of the config states them
    category_ids: list[int]  # in the dataset; from 1 on where it is not known


def load_detector(
    config_file: str, weights: str | None, opts: Sequence[str], *, trust_config: bool = False
) -> Detector:
    """Build a config's model and load its weights.

    Args:
        config_file: YAML, or Python for a LazyConfig; of its datasets only the classes are used.
        weights: in the place of the config's.
        opts: ``KEY VALUE KEY VALUE ...``, for a LazyConfig ``key=value ...``.
        trust_config: let Python tags in the YAML run their code.

    Raises:
        UserError: as ``load_settings``; no weights, or weights that cannot be read.
    """
    settings = load_settings(config_file, opts, trust_config=trust_config, trains=False)
    key = settings.key("weights")
    weights = str(weights or settings.weights)
    if not weights:
        raise UserError(f"{config_file} has no {key}; name the model's weights")
    datasets = [*settings.test_datasets, *settings.train_datasets]
    settings = settings.completed(datasets, opens_datasets=False)
    model = settings.parts.model()
    with weights_errors(key, weights):
        FocalCheckpointer(model, class_names=class_names(datasets), complete=True).load(weights)
    names = class_names(datasets) or [str(i) for i in range(settings.num_classes or 0)]
    return Detector(
        model.eval(),
        settings.cfg,
        *settings.parts.test_input(),
        settings.test_dtype,
        names,
        _category_ids(datasets) or list(range(1, len(names) + 1)),
    )


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
