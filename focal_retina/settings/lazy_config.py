"""Reading a LazyConfig, with errors that say what to change."""

import traceback
from collections.abc import Mapping, Sequence

from detectron2.config import LazyConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from focal_retina.errors import UserError, did_you_mean, shown
from focal_retina.settings.limits import check_limits
from focal_retina.settings.run_settings import RunSettings
from focal_retina.settings.yaml_files import local_path

# Nodes all of whose keys are known.
_CLOSED = {
    "best": ("metric", "mode", "patience"),
    "clip_gradients": ("enabled", "clip_type", "clip_value", "norm_type"),
}
# Keys that a config may lack, besides those of ``RunSettings``: Detectron2's ``default_setup`` and
# our parts read them.
OPTIONAL = {
    *(f"train.{node}.{name}" for node, names in _CLOSED.items() for name in names),
    *("train.cudnn_benchmark", "train.float32_precision", "train.seed"),
    *RunSettings.lazy_keys(),
}


def load_lazy(config_file: str, opts: Sequence[str], trains: bool) -> DictConfig:
    """Run a LazyConfig and return it with its overrides.

    Args:
        opts: ``key=value``, in Hydra's syntax.
        trains: the config must say how to train, too.

    Raises:
        UserError: a file that is missing or fails, a missing section, an unknown key, a value of
            the wrong type or outside its limits.
    """
    cfg = _run(config_file)
    training = ("optimizer", "lr_multiplier") if trains else ()
    for section in ("model", "dataloader", "train", *training):
        if not isinstance(cfg.get(section), DictConfig):
            raise UserError(f"{config_file} defines no {section}")
    for override in opts:  # one by one, so that an error can name the key
        cfg = _override(cfg, override)
    check_limits(cfg)
    return cfg


def check_closed_nodes(cfg: DictConfig) -> None:
    """Raise a UserError at a key of ``train.best`` or ``train.clip_gradients`` that is not one."""
    for node, names in _CLOSED.items():
        found = cfg.train.get(node) or {}
        if unknown := (set(found) if isinstance(found, Mapping) else {found}) - {*names}:
            raise UserError(f"train.{node} has {', '.join(names)}, not {unknown.pop()}")


def _run(config_file: str) -> DictConfig:
    """Run a config; whatever it raises is the user's own mistake, and named by file and line."""
    local_path(config_file)
    try:
        return LazyConfig.load(config_file)
    except FileNotFoundError as error:
        raise UserError(f"config file {error.filename} does not exist") from error
    except (ImportError, SyntaxError) as error:
        raise UserError(f"{config_file}: {error} {error.__cause__ or ''}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f"{f.filename}, line {f.lineno}" for f in frames if f.name == "<module>"]
        place = lines[-1] if lines else config_file
        raise UserError(f"{place}: {type(error).__name__}: {error}") from error


def _override(cfg: DictConfig, override: str) -> DictConfig:
    key = override.split("=")[0].lstrip("+")
    try:
        _check_key(cfg, key)
        before = OmegaConf.select(cfg, key)
        cfg = LazyConfig.apply_overrides(cfg, [override])
        after = OmegaConf.select(cfg, key)
    except (HydraException, KeyError, NotImplementedError, OmegaConfBaseException) as error:
        raise UserError(f"override {override}: {error}") from error
    # Neither a node nor a number becomes something else, but a part of the model, say, null.
    is_none = after is None and "." in key
    if isinstance(before, DictConfig) and not (isinstance(after, DictConfig) or is_none):
        raise UserError(f"{key} is {shown(after)}, but it takes keys of its own, {key}.KEY=VALUE")
    if isinstance(before, int | float) and isinstance(after, str | DictConfig):
        raise UserError(f"{key} is {shown(after)}, but it takes a {type(before).__name__}")
    return cfg


def _check_key(cfg: DictConfig, key: str) -> None:
    """Let an override add an argument to a call, but not a key that nothing reads."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    adds_argument = isinstance(node, DictConfig) and "_target_" in node
    exists = OmegaConf.select(cfg, key, default=cfg) is not cfg
    if not (exists or adds_argument or key in OPTIONAL):
        names = node if isinstance(node, DictConfig) else cfg
        siblings = [f"{parent}.{k}".lstrip(".") for k in map(str, names)]
        raise UserError(f"the config has no key {key or repr(key)}{did_you_mean(key, siblings)}")
