"""What a LazyConfig builds: its own parts."""

import copy
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.data import transforms as T
from detectron2.engine import hooks
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils.registry import locate
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from focal_retina.data.loader import exact_loader_config
from focal_retina.data.mapper import NamingMapper
from focal_retina.detectron2_internals import clipping_of_gradients_that_are_there
from focal_retina.errors import UserError, did_you_mean
from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings.flat_keys import dotted_keys, value_of
from focal_retina.settings.foreign_errors import empty_data_errors
from focal_retina.settings.lazy_config import OPTIONAL, check_closed_nodes

_NUM_CLASSES = ("model.num_classes", "model.roi_heads.num_classes")


class LazyParts:
    """The parts of a run; see ``YamlParts`` for what each method returns."""

    norm_remedy = 'norm="BN" (or "GN") and freeze_at=0 in model.backbone'

    def __init__(self, cfg: DictConfig):
        check_closed_nodes(cfg)
        self.cfg = cfg

    def ddp(self) -> dict[str, Any]:
        return dict(self.cfg.train.ddp)

    def num_classes_key(self) -> str | None:
        return next((key for key in _NUM_CLASSES if value_of(self.cfg, key) is not None), None)

    def model(self) -> nn.Module:
        return self._build("model").to(self.cfg.train.device)

    def optimizer(self, model: nn.Module) -> Optimizer:
        self.cfg.optimizer.params.model = model
        return clip_gradients(self._build("optimizer"), self.cfg.train.get("clip_gradients"))

    def lr_scheduler(self, optimizer: Optimizer) -> ParamScheduler:
        return self._build("lr_multiplier")

    def train_loader(self) -> Iterable:
        names = value_of(self.cfg, "dataloader.train.dataset.names") or []
        with empty_data_errors(names, "dataloader.train.dataset.filter_empty"):
            exact_loader_config(self.cfg.dataloader.train)
            return self._build("dataloader.train")

    def boxes_only(self) -> bool:
        mapper = OmegaConf.select(self.cfg, "dataloader.train.mapper")
        target = mapper.get("_target_") if isinstance(mapper, DictConfig) else ""
        if getattr(target, "__name__", str(target)).rpartition(".")[2] != "DatasetMapper":
            return False  # who knows what it reads
        return not (mapper.get("use_instance_mask") or mapper.get("use_keypoint"))

    def smallest_resize(self) -> tuple[int, int] | None:
        for node in OmegaConf.select(self.cfg, "dataloader.train.mapper.augmentations") or []:
            if isinstance(node, DictConfig) and "short_edge_length" in node:
                sizes = node.short_edge_length
                sizes = [sizes] if isinstance(sizes, int) else sizes
                return min(sizes), node.get("max_size", sys.maxsize)
        return None

    def precise_bn(self, model: nn.Module) -> hooks.HookBase | None:
        return None

    def test_loaders(self) -> dict[str, Callable]:
        key = "dataloader.test"
        return {key: partial(self._build, key)} if self.evaluator() is not None else {}

    def evaluator(self) -> DictConfig | None:
        return self.cfg.dataloader.get("evaluator")

    def validation_loader(self) -> Iterable:
        dataloader = copy.deepcopy(self.cfg.dataloader)
        mapper = dataloader.test.mapper
        mapper.is_train = True
        for name in ("use_instance_mask", "use_keypoint", "instance_mask_format"):
            if name in dataloader.train.mapper:
                mapper[name] = dataloader.train.mapper[name]
        return self._build("dataloader.test", dataloader.test)

    def tta_mapper(self) -> Callable | None:
        if self.cfg.dataloader.get("tta_mapper") is None:
            return None
        if "postprocessor" not in self.cfg.model:
            raise UserError(
                "dataloader.tta_mapper: there is test-time augmentation for FocalRetinaNet only, "
                f"whose postprocessor merges; model is {self.cfg.model.get('_target_')}"
            )
        return self._build("dataloader.tta_mapper")

    def test_input(self) -> tuple[str, T.AugmentationList]:
        mapper = OmegaConf.select(self.cfg, "dataloader.test.mapper")
        if mapper is None or "augmentations" not in mapper or "image_format" not in mapper:
            raise UserError(
                "dataloader.test.mapper has no augmentations or no image_format, which say how to "
                "show pictures to the model"
            )
        return mapper.image_format, T.AugmentationList([*instantiate(mapper.augmentations)])

    def pixels(self) -> PixelFormat | None:
        node = self.cfg.model.get("preprocessor")
        return node and PixelFormat(node.pixel_mean, node.pixel_std, node.input_format)

    def ignored_keys(self) -> str | None:
        keys = dotted_keys(self.cfg.train, "train.").items()
        leaves = [key for key, value in keys if not isinstance(value, DictConfig)]
        unknown = [x for x in leaves if not (x in OPTIONAL or x.startswith("train.ddp."))]
        if not unknown:
            return None
        return f"nothing reads {', '.join(unknown)}{did_you_mean(unknown[0], OPTIONAL)}"

    def _build(self, key: str, node: Any = None) -> Any:
        """Return what a node makes, the config's if none is given; see ``NamingMapper``."""
        node = OmegaConf.select(self.cfg, key) if node is None else node
        _check_calls(key, node)
        if not isinstance(node, DictConfig):
            return instantiate(node)
        arguments = {name: node[name] for name in node}
        if isinstance(arguments.get("mapper"), DictConfig):
            arguments["mapper"] = NamingMapper(instantiate(node.mapper))
        return instantiate(arguments)


def _check_calls(key: str, node: Any) -> None:
    """Raise a UserError at the first call within a node that lacks an argument or has one more."""
    if isinstance(node, DictConfig | ListConfig):
        for name, child in node.items() if isinstance(node, DictConfig) else enumerate(node):
            _check_calls(f"{key}.{name!s}", child)
    if not (isinstance(node, DictConfig) and "_target_" in node):
        return
    target = node["_target_"]
    try:
        target = locate(target) if isinstance(target, str) else target
    except ImportError as error:
        raise UserError(f"{key}: {error}") from error
    if not callable(target):
        raise UserError(f"{key}: _target_ {target} is nothing that can be called")
    try:
        signature = inspect.signature(target)
    except ValueError:  # of a function in C
        return
    try:
        signature.bind(**{str(name): None for name in node if name != "_target_"})
    except TypeError as error:
        name = getattr(target, "__name__", target)
        raise UserError(f"{key}: {name}() {error}") from error


def clip_gradients(optimizer: Optimizer, clipping: DictConfig | None) -> Optimizer:
    """Return the optimizer, which clips as SOLVER.CLIP_GRADIENTS says, in lower case; None: not."""
    if clipping is None:
        return optimizer
    asked = {str(name).upper(): value for name, value in clipping.items()}
    node = CfgNode({**get_cfg().SOLVER.CLIP_GRADIENTS, "ENABLED": True, **asked})
    with clipping_of_gradients_that_are_there():
        return maybe_add_gradient_clipping(CfgNode({"SOLVER": {"CLIP_GRADIENTS": node}}), optimizer)
