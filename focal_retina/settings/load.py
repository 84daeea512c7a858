"""The settings of a config file, of either kind."""

import re
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm
from omegaconf import DictConfig

from focal_retina.errors import UserError
from focal_retina.settings.lazy_config import load_lazy
from focal_retina.settings.lazy_parts import LazyParts
from focal_retina.settings.run_settings import RunSettings
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.settings.yaml_parts import YamlParts


def load_settings(
    config_file: str, opts: Sequence[str] = (), *, trust_config: bool = False, trains: bool = True
) -> RunSettings:
    """Read a config file with its overrides, and check what can be checked before building.

    Args:
        config_file: .py is a LazyConfig, anything else YAML.
        opts: ``KEY VALUE KEY VALUE ...``, for a LazyConfig ``key=value ...``.
        trust_config: let Python tags in the YAML run their code.
        trains: the config must say how to train, too.

    Raises:
        UserError: as ``load_yaml`` and ``load_lazy``; settings that do not go together.
    """
    if not config_file:
        raise UserError("--config-file is missing")
    if options := [x for x in map(str, opts) if re.match("--[a-z]", x)]:
        raise UserError(f"write {options[0]} before the config's keys and their values")
    if config_file.endswith(".py"):
        settings = settings_of(load_lazy(config_file, opts, trains))
    else:
        settings = settings_of(load_yaml(config_file, opts, trust_config))
    settings.check(trains=trains)
    return settings


def settings_of(cfg: CfgNode | DictConfig) -> RunSettings:
    """Return the settings of a config that is loaded already."""
    if isinstance(cfg, DictConfig):
        return RunSettings.of(cfg, LazyParts(cfg))
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
    return RunSettings.of(cfg, YamlParts(cfg))
