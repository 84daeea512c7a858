"""Configs and models of finished trainings."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.engine import job
from focal_retina.settings.foreign_errors import weights_errors


def load_config(config_file: str, opts: Sequence[str], trust_config: bool = False) -> CfgNode:
    """Return a YAML config as for an evaluation, with its datasets registered.

    Args:
        opts: ``KEY VALUE KEY VALUE ...``.

    Raises:
        UserError: the config cannot be used.
    """
    return job.load(config_file, opts, trust_config=trust_config, eval_only=True).cfg


def load_model(cfg: CfgNode) -> nn.Module:
    """Return the model with the weights that ``MODEL.WEIGHTS`` names.

    Raises:
        UserError: the weights cannot be read, or leave a part of the model without weights.
    """
    model = build_model(cfg)
    with weights_errors("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS):
        FocalCheckpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    return model
