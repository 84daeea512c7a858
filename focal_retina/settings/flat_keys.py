"""Dotted keys, such as "MODEL.DEVICE": of a whole config, and one at a time."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from omegaconf import DictConfig, OmegaConf

ABSENT = object()  # what no config has for a value


def dotted_keys(cfg: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the config flat: ``{"MODEL.DEVICE": "cuda", ...}``, nodes included."""
    flat = {}
    for key, value in cfg.items():
        flat[prefix + key] = value
        if isinstance(value, Mapping):
            flat |= dotted_keys(value, f"{prefix}{key}.")
    return flat


def nested_keys(dotted: Mapping[str, object]) -> dict:
    """Return ``{"A": {"B": 1}}`` for ``{"A.B": 1}``, as a YAML file has it."""
    tree: dict = {}
    for key, value in dotted.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def value_of(cfg: CfgNode | DictConfig, key: str, absent: Any = None) -> Any:
    """Return the value of a dotted key as plain data; ``absent`` where there is no such key."""
    for name in key.split("."):
        cfg = cfg.get(name, absent) if isinstance(cfg, Mapping) else absent
    value = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    return [value] if key.endswith(".dataset.names") and isinstance(value, str) else value


def set_value(cfg: CfgNode | DictConfig, key: str, value: object) -> None:
    """Set the value of a dotted key whose node is there."""
    *nodes, name = key.split(".")
    for node in nodes:
        cfg = cfg[node]
    cfg[name] = value
