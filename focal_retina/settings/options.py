"""The keys of a training run that Detectron2 lacks, of either kind of config."""

from dataclasses import dataclass, fields

from detectron2.config import CfgNode, get_cfg
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.optim import Optimizer


@dataclass(frozen=True)
class TrainingOptions:
    """See ``focal_retina/config.py`` for the meaning of each; the defaults are off."""

    accumulation_steps: int = 1  # SOLVER.ACCUMULATION_STEPS, train.accumulation_steps
    ema_decay: float | None = None  # SOLVER.EMA_DECAY, train.ema_decay
    val_loss: bool = False  # TEST.VAL_LOSS, train.val_loss
    best_metric: str | None = None  # TEST.BEST.METRIC, train.best.metric
    best_mode: str = "max"
    best_patience: int | None = None

    @classmethod
    def of_yaml(cls, cfg: CfgNode) -> "TrainingOptions":
        """Return the options of a config, of Detectron2's own too."""
        best = cfg.TEST.get("BEST", {})
        return cls(
            cfg.SOLVER.get("ACCUMULATION_STEPS", 1),
            cfg.SOLVER.get("EMA_DECAY"),
            cfg.TEST.get("VAL_LOSS", False),
            best.get("METRIC"),
            best.get("MODE", "max"),
            best.get("PATIENCE"),
        )

    @classmethod
    def of_lazy(cls, train: DictConfig) -> "TrainingOptions":
        best = train.get("best") or {}
        if unknown := set(best) - {"metric", "mode", "patience"}:
            raise ValueError(f"train.best has metric, mode and patience, not {unknown.pop()}")
        given = {**train, **{f"best_{name}": value for name, value in best.items()}}
        return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})

    def check(self, *, batch_size: int | None, eval_period: int, has_test_set: bool) -> None:
        """Raise a ValueError at the first option that cannot work.

        Args:
            batch_size: images of all processes; None where it is not known.
            eval_period: iterations between evaluations, 0 for one at the end.
            has_test_set: whether there is anything to evaluate on.
        """
        for is_wrong, complaint in (
            *self._range_complaints(batch_size),
            *self._evaluation_complaints(eval_period, has_test_set),
        ):
            if is_wrong:
                raise ValueError(complaint)

    def _range_complaints(self, batch_size: int | None):
        steps, decay, patience = self.accumulation_steps, self.ema_decay, self.best_patience
        images = None if batch_size is None else batch_size // comm.get_world_size()
        yield (
            not isinstance(steps, int) or steps < 1 or (images is not None and steps > images),
            f"SOLVER.ACCUMULATION_STEPS (train.accumulation_steps) is {steps}; it lies between 1 "
            f"and the images of one process{'' if images is None else f', {images}'}",
        )
        yield (
            decay is not None and not 0 < decay < 1,
            f"SOLVER.EMA_DECAY (train.ema_decay) is {decay}; it lies between 0 and 1, for instance "
            "0.999, or is None for no average",
        )
        yield (
            self.best_mode not in ("max", "min"),
            f"TEST.BEST.MODE (train.best.mode) is {self.best_mode!r}; it is max or min",
        )
        yield (
            patience is not None and (not isinstance(patience, int) or patience < 1),
            f"TEST.BEST.PATIENCE (train.best.patience) is {patience}; it is the number of "
            "evaluations, at least 1, or None for no early stop",
        )

    def _evaluation_complaints(self, eval_period: int, has_test_set: bool):
        patience, metric = self.best_patience, self.best_metric
        yield (
            patience is not None and metric is None,
            f"TEST.BEST.PATIENCE (train.best.patience) is {patience}, but TEST.BEST.METRIC "
            "(train.best.metric) names no metric, for instance bbox/AP",
        )
        yield (
            metric is not None and "/" not in metric and not metric.startswith("val_"),
            f"TEST.BEST.METRIC (train.best.metric) is {metric!r}; it is a name in metrics.json,"
            " for instance bbox/AP or val_total_loss",
        )
        yield (
            metric is not None and metric.startswith("val_") and not self.val_loss,
            f"TEST.BEST.METRIC (train.best.metric) {metric} needs TEST.VAL_LOSS (train.val_loss) "
            "True",
        )
        yield (
            patience is not None and eval_period < 1,
            f"TEST.BEST.PATIENCE (train.best.patience) is {patience}, but TEST.EVAL_PERIOD "
            "(train.eval_period) is 0: nothing is evaluated before the end",
        )
        yield (
            not has_test_set and (self.val_loss or metric is not None),
            "TEST.VAL_LOSS (train.val_loss) and TEST.BEST.METRIC (train.best.metric) need a "
            "dataset in DATASETS.TEST (dataloader.test and, for a metric, dataloader.evaluator)",
        )


def check_clip_type(key: str, clip_type: str) -> None:
    """Raise a ValueError at a kind of gradient clipping that Detectron2 has not."""
    if clip_type not in ("value", "norm"):
        raise ValueError(f"{key} is {clip_type!r}; it is value or norm (of each parameter)")


def clip_gradients(optimizer: Optimizer, clipping: DictConfig | None) -> Optimizer:
    """Return the optimizer, which clips as SOLVER.CLIP_GRADIENTS says, in lower case; None: not.

    Raises:
        ValueError: another name than "clip_type", "clip_value" and "norm_type", or type.
    """
    if clipping is None:
        return optimizer
    defaults = get_cfg().SOLVER.CLIP_GRADIENTS
    node = CfgNode({**defaults, "ENABLED": True})
    for name, value in clipping.items():
        if name.upper() not in defaults:
            names = ", ".join(key.lower() for key in defaults)
            raise ValueError(f"train.clip_gradients has {names}, not {name}")
        node[name.upper()] = value
    check_clip_type("train.clip_gradients.clip_type", node.CLIP_TYPE)
    if not node.ENABLED:
        return optimizer
    return maybe_add_gradient_clipping(CfgNode({"SOLVER": {"CLIP_GRADIENTS": node}}), optimizer)
