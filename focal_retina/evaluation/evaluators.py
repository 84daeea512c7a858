"""The evaluator that suits a dataset; COCO's metrics by faster-coco-eval where it is installed."""

import logging
from functools import partial

from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from focal_retina.data.garbage_collection import paused_gc
from focal_retina.detectron2_internals import coco_eval_class, replace_coco_api
from focal_retina.errors import UserError

try:
    from faster_coco_eval import COCO, COCOeval_faster
except ModuleNotFoundError:
    COCO = None

logger = logging.getLogger(__name__)


def build_evaluator(dataset_name: str, output_dir: str) -> DatasetEvaluator:
    """Return the evaluator that suits a dataset; UserError as :func:`evaluator_type`."""
    kind = evaluator_type(dataset_name)
    if kind == "coco":
        return coco_evaluator(dataset_name, output_dir=output_dir)
    if kind == "lvis":
        return LVISEvaluator(dataset_name, output_dir=output_dir)
    return PascalVOCDetectionEvaluator(dataset_name)


def evaluator_type(dataset_name: str) -> str:
    """Return the dataset's ``evaluator_type``; raise a UserError if none evaluates its boxes."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in ("coco", "lvis", "pascal_voc"):
        raise UserError(
            f"dataset {dataset_name} has evaluator_type {kind!r}, which has no evaluator of "
            "boxes; allowed are 'coco', 'lvis' and 'pascal_voc'"
        )
    return kind


def coco_evaluator(dataset_name: str, **kwargs) -> COCOEvaluator:
    """Return the fastest ``COCOEvaluator`` that is installed; log a line where that is not ours."""
    # A cached conversion to COCO json may stem from an older state of the dataset.
    kwargs = {"allow_cached_coco": False, **kwargs}
    if COCO is not None:
        return FasterCOCOEvaluator(dataset_name, **kwargs)
    logger.info(
        "faster-coco-eval is not installed; evaluating with pycocotools, ten times slower. "
        "Install it with: pip install 'focal_retina[eval]'"
    )
    return COCOEvaluator(dataset_name, **kwargs)


class FasterCOCOEvaluator(COCOEvaluator):
    """Detectron2's ``COCOEvaluator`` with faster-coco-eval in the place of pycocotools.

    Takes the same arguments but ``use_fast_impl`` and gives the same results; the sums that make
    them are rounded in another order, at the 17th digit.
    """

    def __init__(self, dataset_name: str, **kwargs):
        super().__init__(dataset_name, use_fast_impl=False, **kwargs)
        replace_coco_api(self, COCO)

    def evaluate(self, img_ids=None) -> dict:
        with coco_eval_class(partial(COCOeval_faster, print_function=print)), paused_gc():
            return super().evaluate(img_ids)
