"""The scale that rows are run at: the paper's, a small one, or the user's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from experiments.paper.rows import Row
from focal_retina.data.shapes import write_shapes

_FOLDER = Path(__file__).with_name("presets")
CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Preset:
    """What a preset's YAML holds, besides keys of the config, which are in upper case.

    Attributes:
        base_config: file in ``configs/`` (or a path) that rows start from.
        backbones: keys of the config for each backbone of the tables.
        size_factor: of the rows' image sizes.
        ohem_factor: of the rows' OHEM batch sizes.
        shapes: images and their side of the built-in dataset, see ``write_shapes``; None without.
        overrides: keys of the config that win over those of the row.
    """

    base_config: str
    backbones: dict[str, dict]
    size_factor: float = 1.0
    ohem_factor: float = 1.0
    shapes: dict | None = None
    overrides: dict = field(default_factory=dict)


def load_preset(name: str) -> Preset:
    """Return the preset "full" or "mini", or that of a YAML file.

    A file may name in ``preset`` the one it starts from ("full"), and holds differences from it.

    Raises:
        ValueError: a missing file or an unknown key.
    """
    path = _FOLDER / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        raise ValueError(f"--preset {name} is neither full nor mini nor a YAML file")
    content = yaml.safe_load(path.read_text()) or {}
    if not isinstance(content, dict):
        raise ValueError(f"preset {path} is not a mapping of keys to values")
    if path.parent == _FOLDER:
        base = {}
    else:
        loaded = load_preset(content.pop("preset", "full"))
        base = {f.name: getattr(loaded, f.name) for f in fields(loaded)}
    overrides = base.pop("overrides", {}) | flat({k: v for k, v in content.items() if k.isupper()})
    known = {f.name for f in fields(Preset)} - {"overrides"}
    settings = {k: v for k, v in content.items() if not k.isupper()}
    if unknown := settings.keys() - known:
        raise ValueError(
            f"preset {path} has the unknown key {sorted(unknown)[0]}; its own keys are "
            f"{', '.join(sorted(known))} and preset, and those of a config are in upper case"
        )
    backbones = base.get("backbones", {}) | settings.get("backbones", {})
    return Preset(**base | settings | {"backbones": backbones}, overrides=overrides)


def flat(node: Mapping, prefix: str = "") -> dict[str, object]:
    """Return nested keys of a config as ``{"SOLVER.MAX_ITER": 90, ...}``."""
    result = {}
    for key, value in node.items():
        is_node = isinstance(value, Mapping)
        result |= flat(value, f"{prefix}{key}.") if is_node else {prefix + key: value}
    return result


def row_overrides(row: Row, preset: Preset, shapes_folder: Path) -> dict[str, object]:
    """Return the keys of the config that make a row, flat.

    Longer sides keep the 1333 pixels at 800 of the authors' code. The schedule's factor is left to
    :func:`job_overrides`, which knows the base config.

    Args:
        shapes_folder: where the built-in dataset is written, if the preset has it.
    """
    sizes = [round(size * preset.size_factor) for size in row.train_sizes or (row.size,)]
    overrides = {
        **preset.backbones[row.backbone],
        "INPUT.MIN_SIZE_TRAIN": sizes,
        "INPUT.MAX_SIZE_TRAIN": round(max(sizes) * 1333 / 800),
        "INPUT.MIN_SIZE_TEST": round(row.size * preset.size_factor),
        "INPUT.MAX_SIZE_TEST": round(row.size * preset.size_factor * 1333 / 800),
        "DATASETS.TEST": [row.dataset],
    }
    if row.ohem_batch_size is not None:
        batch_size = max(1, round(row.ohem_batch_size * preset.ohem_factor))
        overrides["MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE"] = batch_size
    if preset.shapes is not None:
        overrides |= _shapes_datasets(preset.shapes, shapes_folder)
    return overrides | row.overrides | preset.overrides


def _shapes_datasets(shapes: dict, folder: Path) -> dict[str, object]:
    """Make sure that the shapes are on disk, and return the keys that declare them."""
    entries = []
    for split in ("train", "val"):
        path = write_shapes(folder, split, shapes[f"{split}_images"], shapes["image_size"])
        entries.append([f"shapes_{split}", str(path / "instances.json"), str(path / "images")])
    return {
        "DATASETS.REGISTER": entries,
        "DATASETS.TRAIN": ["shapes_train"],
        "DATASETS.TEST": ["shapes_val"],
    }
