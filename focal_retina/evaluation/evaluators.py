"""The evaluator that suits a dataset, and the metrics that it can have."""

from collections.abc import Iterator

from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from focal_retina.errors import UserError, did_you_mean
from focal_retina.evaluation.average_precision import AP_NAMES
from focal_retina.evaluation.box_evaluator import BoxEvaluator
from focal_retina.settings.run_settings import RunSettings

_KEYS_OF_RETINANETS = ("MODEL.RETINANET.NUM_CLASSES", "model.num_classes")
_TASKS = ("bbox", "segm", "keypoints")
_APS = {"coco": AP_NAMES, "lvis": (*AP_NAMES, "APr", "APc", "APf"), "pascal_voc": AP_NAMES[:3]}


def build_evaluator(
    dataset_name: str, output_dir: str, max_dets_per_image: int = 100
) -> DatasetEvaluator:
    """Return the evaluator that suits a dataset; UserError as :func:`evaluator_type`.

    Args:
        max_dets_per_image: the model gives no more. COCO's metrics are at this limit, or at 100;
            LVIS' at this, or at 300.
    """
    kind = evaluator_type(dataset_name)
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    evaluator, least = {"coco": (BoxEvaluator, 100), "lvis": (LVISEvaluator, 300)}[kind]
    limit = max(max_dets_per_image, least)
    return evaluator(dataset_name, output_dir=output_dir, max_dets_per_image=limit)


def evaluator_type(dataset_name: str) -> str:
    """Return the dataset's ``evaluator_type``; raise a UserError if none evaluates its boxes."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in _APS:
        raise UserError(
            f"dataset {dataset_name} has evaluator_type {kind!r}, which has no evaluator of "
            "boxes; allowed are 'coco', 'lvis' and 'pascal_voc'"
        )
    return kind


def check_best_metric(settings: RunSettings) -> None:
    """Raise a UserError if no evaluation of this run can have a number of TEST.BEST.METRIC."""
    metric, node = settings.best_metric, settings.parts.evaluator()
    if metric is None or (node is not None and node.get("_target_") is not COCOEvaluator):
        return
    is_retinanet = settings.parts.num_classes_key() in _KEYS_OF_RETINANETS
    if not is_retinanet and metric.startswith(("val_", "box_proposals/")):
        return  # named by the model's own losses, or those of a proposal generator
    names = list(_metric_names(settings, ("bbox",) if is_retinanet else _TASKS))
    if settings.parts.tta_mapper() is not None:
        names += [name.replace("/", "_TTA/", 1) for name in names]
    if settings.val_loss:
        names += [f"val_{x}" for x in ("loss_cls", "loss_box_reg", "total_loss")]
    if metric not in names:
        few = ", ".join(name for name in names if "AP-" not in name) or "none"
        raise UserError(
            f"{settings.key('best_metric')} is {metric!r}, which no evaluation of this run has"
            f"{did_you_mean(metric, names)}; it has {few}, and of several classes AP-<class>"
        )


def _metric_names(settings: RunSettings, tasks: tuple[str, ...]) -> Iterator[str]:
    node, loaders = settings.parts.evaluator(), settings.parts.test_loaders()
    for dataset in loaders if node is None else [node.dataset_name]:
        kind = evaluator_type(dataset) if node is None else "coco"
        names = list(_APS[kind])
        if kind == "coco":
            classes = MetadataCatalog.get(dataset).get("thing_classes", ())
            names += [f"{x}@100" for x in AP_NAMES if settings.detections_per_image > 100]
            names += [f"AP-{x}" for x in classes if len(classes) > 1]
        prefix = f"{dataset}/" if len(loaders) > 1 else ""
        yield from (f"{prefix}{task}/{name}" for task in tasks for name in names)
