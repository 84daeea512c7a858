"""What a run does: one record, which a YAML config and a LazyConfig fill alike."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from omegaconf import DictConfig

from focal_retina.data.register import agree_on_classes, register_datasets
from focal_retina.errors import UserError
from focal_retina.settings import rules
from focal_retina.settings.flat_keys import ABSENT, set_value, value_of
from focal_retina.settings.machine import check_datasets, usable_device

if TYPE_CHECKING:
    from focal_retina.settings.lazy_parts import LazyParts
    from focal_retina.settings.yaml_parts import YamlParts

_TEXTS = rules.each(rules.text)


def _setting(yaml_key: str, lazy_key: str, rule: rules.Rule, default: object = None) -> Any:
    """Declare a field: its keys, what they may be, and the default where a config lacks the key."""
    metadata = {"keys": (yaml_key, lazy_key), "rule": rule}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run; ``focal_retina/config.py`` and Detectron2 say what each key means."""

    cfg: CfgNode | DictConfig
    parts: "YamlParts | LazyParts"
    output_dir: str = _setting("OUTPUT_DIR", "train.output_dir", rules.folder, "./output")
    device: str = _setting("MODEL.DEVICE", "train.device", rules.text, "cuda")
    weights: str = _setting("MODEL.WEIGHTS", "train.init_checkpoint", rules.text, "")
    register: Sequence = _setting("DATASETS.REGISTER", "dataloader.register", rules.anything, ())
    train_datasets: Sequence[str] = _setting(
        "DATASETS.TRAIN", "dataloader.train.dataset.names", _TEXTS, ()
    )
    test_datasets: Sequence[str] = _setting(
        "DATASETS.TEST", "dataloader.test.dataset.names", _TEXTS, ()
    )
    filter_empty: bool = _setting(
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
        "dataloader.train.dataset.filter_empty",
        rules.flag,
        True,
    )
    batch_size: int | None = _setting(
        "SOLVER.IMS_PER_BATCH",
        "dataloader.train.total_batch_size",
        rules.optional(rules.whole(1, 100_000)),  # None beside single_gpu_batch_size
    )
    learning_rate: float | None = _setting("SOLVER.BASE_LR", "optimizer.lr", rules.positive)
    max_iter: int = _setting("SOLVER.MAX_ITER", "train.max_iter", rules.whole(1), 1)
    eval_period: int = _setting("TEST.EVAL_PERIOD", "train.eval_period", rules.whole(0), 0)
    log_period: int = _setting("", "train.log_period", rules.whole(1), 20)
    checkpoint_period: int = _setting(
        "SOLVER.CHECKPOINT_PERIOD", "train.checkpointer.period", rules.whole(1), 5000
    )
    max_to_keep: int | None = _setting(
        "SOLVER.CHECKPOINT_MAX_TO_KEEP",
        "train.checkpointer.max_to_keep",
        rules.optional(rules.whole(1)),
    )
    checkpoint_minutes: float | None = _setting(
        "SOLVER.CHECKPOINT_MINUTES",
        "train.checkpointer.minutes",
        rules.optional(rules.positive),
        10.0,
    )
    accumulation_steps: int = _setting(
        "SOLVER.ACCUMULATION_STEPS", "train.accumulation_steps", rules.whole(1), 1
    )
    ema_decay: float | None = _setting(
        "SOLVER.EMA_DECAY", "train.ema_decay", rules.optional(rules.number(above=0, below=1))
    )
    val_loss: bool = _setting("TEST.VAL_LOSS", "train.val_loss", rules.flag, False)
    detections_per_image: int = _setting(
        "TEST.DETECTIONS_PER_IMAGE", "model.postprocessor.max_detections", rules.whole(1), 100
    )
    best_metric: str | None = _setting(
        "TEST.BEST.METRIC", "train.best.metric", rules.optional(rules.text)
    )
    best_mode: str = _setting(
        "TEST.BEST.MODE", "train.best.mode", rules.one_of("max", "min"), "max"
    )
    best_patience: int | None = _setting(
        "TEST.BEST.PATIENCE", "train.best.patience", rules.optional(rules.whole(1))
    )
    amp: bool = _setting("SOLVER.AMP.ENABLED", "train.amp.enabled", rules.flag, False)
    amp_dtype: str = _setting(
        "SOLVER.AMP.DTYPE", "train.amp.dtype", rules.one_of("float16", "bfloat16"), "float16"
    )
    test_amp: bool = _setting("TEST.AMP.ENABLED", "train.amp.test", rules.flag, False)
    expected_results: Sequence = _setting(
        "TEST.EXPECTED_RESULTS",
        "train.expected_results",
        rules.each(rules.row(rules.text, rules.text, rules.number(), rules.number())),
        (),
    )

    @classmethod
    def of(cls, cfg: CfgNode | DictConfig, parts: "YamlParts | LazyParts") -> "RunSettings":
        """Read the record from a config; raise a UserError at a value that cannot be."""
        settings = cls(cfg, parts)
        found: dict[str, Any] = {}
        for name, field in _FIELDS.items():
            key = settings.key(name)
            value = value_of(cfg, key, absent=ABSENT)
            if value is not ABSENT:
                field.metadata["rule"].check(key, value)
                found[name] = value
        return dataclasses.replace(settings, **found)

    @staticmethod
    def lazy_keys() -> list[str]:
        """Return the keys of a LazyConfig that fill the record."""
        return [f.metadata["keys"][1] for f in _FIELDS.values()]

    def key(self, name: str) -> str:
        """Return the key of a field in this kind of config, for instance "SOLVER.MAX_ITER"."""
        return _FIELDS[name].metadata["keys"][isinstance(self.cfg, DictConfig)]

    @property
    def train_dtype(self) -> torch.dtype | None:
        """What autocast computes in, in training; None for no autocast."""
        return getattr(torch, self.amp_dtype) if self.amp else None

    @property
    def test_dtype(self) -> torch.dtype | None:
        """What autocast computes in, at test; None for no autocast."""
        return getattr(torch, self.amp_dtype) if self.test_amp else None

    @property
    def num_classes(self) -> int | None:
        """The number of the model's classes; None where its config does not say."""
        key = self.parts.num_classes_key()
        return value_of(self.cfg, key) if key else None

    def completed(
        self,
        datasets: Sequence[str],
        *,
        opens_datasets: bool = True,
        otherwise: Mapping[str, Sequence[str]] | None = None,
    ) -> "RunSettings":
        """Fill in what the machine and these datasets decide: the device and the classes.

        Registers the datasets that the config declares.

        Args:
            datasets: names, which must agree on the classes.
            opens_datasets: they must be there, and not only be known by name.
            otherwise: who states which classes where no dataset does.

        Raises:
            UserError: no such device, an unusable dataset, or another number of classes.
        """
        device = usable_device(self.key("device"), self.device)
        set_value(self.cfg, self.key("device"), device)
        boxes_only = self.parts.boxes_only()
        register_datasets(self.register, boxes_only=boxes_only, has_images=opens_datasets)
        if opens_datasets:
            check_datasets(datasets, self.key("register"))
        key = self.parts.num_classes_key()
        if key and self.num_classes is not None:
            count = agree_on_classes(key, self.num_classes, datasets, otherwise)
            set_value(self.cfg, key, count)
        return dataclasses.replace(self, device=device)

    def check(self, *, trains: bool = True) -> None:
        """Raise a UserError at the first settings that conflict; of training if it ``trains``."""
        self.parts.tta_mapper()
        if trains:
            self._check_batch()
            self._check_evaluation()

    def _check_batch(self) -> None:
        if self.batch_size is None:
            return
        images, rest = divmod(self.batch_size, comm.get_world_size())
        if rest:
            raise UserError(
                f"{self._named('batch_size')}, which does not divide among the processes: set it "
                f"to a multiple of {comm.get_world_size()}"
            )
        if self.accumulation_steps > images:
            steps = self._named("accumulation_steps")
            raise UserError(f"{steps}, more than the images of one process, {images}")

    def _check_evaluation(self) -> None:
        metric, key, val_loss = self.best_metric, self.key("best_metric"), self.key("val_loss")
        if self.best_patience is not None and metric is None:
            raise UserError(
                f"{self._named('best_patience')}, but {key} names no metric, for instance bbox/AP"
            )
        if metric is not None and "/" not in metric and not metric.startswith("val_"):
            raise UserError(
                f"{key} is {metric!r}; it is a name in metrics.json, for instance bbox/AP or "
                "val_total_loss"
            )
        if metric is not None and metric.startswith("val_") and not self.val_loss:
            raise UserError(f"{key} is {metric}, which needs {val_loss} True")
        if self.best_patience is not None and self.eval_period < 1:
            raise UserError(
                f"{self._named('best_patience')}, but {self._named('eval_period')}: nothing is "
                "evaluated before the end"
            )
        if not self.test_datasets and (self.val_loss or metric is not None):
            raise UserError(f"{val_loss} and {key} need a dataset in {self.key('test_datasets')}")

    def _named(self, field: str) -> str:
        return f"{self.key(field)} is {getattr(self, field)}"


_FIELDS = {f.name: f for f in dataclasses.fields(RunSettings) if f.metadata}
