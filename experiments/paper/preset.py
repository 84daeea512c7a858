"""Presets: the scale of the trainings, which is the paper's, a small one, or the user's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from experiments.paper.rows import Row
from focal_retina.data.shapes import write_shapes
from focal_retina.errors import UserError, shown

_FOLDER = Path(__file__).with_name("presets")
CONFIGS = Path(__file__).parents[2] / "configs"


# Keys of a preset's file besides those of a config.
_TYPES = {
    "preset": str,
    "base_config": str,
    "backbones": dict,
    "size_factor": float | int,
    "ohem_factor": float | int,
    "shapes": dict | None,
}
_SHAPES = {"train_images", "val_images", "image_size"}


@dataclass(frozen=True)
class Preset:
    """The content of a preset's YAML file.

    Attributes:
        base_config: file in ``configs/``, or a path, that all rows start from.
        backbones: keys of the config for each backbone of the tables.
        size_factor: multiplies the image sizes of the rows.
        ohem_factor: multiplies the OHEM batch sizes of the rows.
        shapes: ``train_images``, ``val_images`` and ``image_size`` of drawn shapes to train on;
            None for the datasets of the config.
        overrides: keys of the config, in upper case in the file; they win over those of a row.
    """

    base_config: str
    backbones: dict[str, dict]
    size_factor: float = 1.0
    ohem_factor: float = 1.0
    shapes: dict | None = None
    overrides: dict = field(default_factory=dict)


def load_preset(name: str) -> Preset:
    """Return the preset "full" or "mini", or that of a YAML file.

    A file names in ``preset`` the one that it starts from ("full" by default), and holds the
    differences from it.

    Raises:
        UserError: the file is missing or not YAML, or has an unknown key or a wrong value.
    """
    path = _FOLDER / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        raise UserError(f"--preset {name} is neither full nor mini nor a YAML file")
    content = _read(path)
    overrides = flat({key: content.pop(key) for key in list(content) if key.isupper()})
    if path.parent == _FOLDER:
        return Preset(**content, overrides=overrides)
    base = load_preset(content.pop("preset", "full"))
    backbones = base.backbones | content.get("backbones", {})
    content |= {"backbones": backbones, "overrides": base.overrides | overrides}
    return Preset(**asdict(base) | content)


def _read(path: Path) -> dict:
    """Return the checked content of a preset's file."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise UserError(f"preset {path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"preset {path} is not a mapping of keys to values")
    settings = {str(key): value for key, value in content.items() if not str(key).isupper()}
    if unknown := settings.keys() - _TYPES.keys():
        raise UserError(
            f"preset {path} has the unknown key {min(unknown)}; its own keys are "
            f"{', '.join(_TYPES)}, and those of a config are in upper case"
        )
    for key, value in settings.items():
        if not isinstance(value, _TYPES[key]):
            raise UserError(f"preset {path}: {key} cannot be {shown(value)}")
    if (shapes := settings.get("shapes")) is not None and shapes.keys() != _SHAPES:
        raise UserError(f"preset {path}: the keys of shapes are {', '.join(sorted(_SHAPES))}")
    return content


def flat(node: Mapping, prefix: str = "") -> dict[str, object]:
    """Return nested keys of a config as ``{"SOLVER.MAX_ITER": 90, ...}``."""
    result = {}
    for key, value in node.items():
        is_node = isinstance(value, Mapping)
        result |= flat(value, f"{prefix}{key}.") if is_node else {prefix + key: value}
    return result


def row_overrides(row: Row, preset: Preset, shapes_folder: Path) -> dict[str, object]:
    """Return the keys of the config that make a row, flat, without its longer schedule.

    The limit of the longer side grows with the shorter side: 1333 pixels at 800, as in the authors'
    code.

    Args:
        shapes_folder: where the shapes are drawn, if the preset has them.
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
    """Draw the shapes, unless they are there, and return the keys that declare them."""
    entries = []
    for split in ("train", "val"):
        path = write_shapes(folder, split, shapes[f"{split}_images"], shapes["image_size"])
        entries.append([f"shapes_{split}", str(path / "instances.json"), str(path / "images")])
    return {
        "DATASETS.REGISTER": entries,
        "DATASETS.TRAIN": ["shapes_train"],
        "DATASETS.TEST": ["shapes_val"],
    }
