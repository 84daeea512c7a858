"""COCO's metrics of boxes: what is to be found, matching by hotcoco or pycocotools, and the AP."""

import contextlib
import io
import json
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focal_retina.data.garbage_collection import paused_gc

try:
    import hotcoco
except ModuleNotFoundError:
    hotcoco = None

AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")

logger = logging.getLogger(__name__)


class Objects(NamedTuple):
    """What a dataset has to be found.

    Images, annotations and classes are numbered anew, in the order of their ids: neither library
    takes every id that a json may have.
    """

    images: dict  # id in the json -> number, from 0
    category_ids: list  # in the json, by class
    content: dict[str, list[dict]]  # a COCO json with our numbers in the place of ids
    has_annotations: bool  # as a public test set's json has not


def read_objects(dataset_name: str) -> Objects:
    """Return the objects of a registered dataset."""
    metadata = MetadataCatalog.get(dataset_name)
    with paused_gc():
        if json_file := metadata.get("json_file"):
            with PathManager.open(json_file, "rb") as file:
                content = json.loads(file.read())
        else:
            content = convert_to_coco_dict(dataset_name)
        images, classes = (
            {x: i for i, x in enumerate(sorted({x["id"] for x in content[kind]}))}
            for kind in ("images", "categories")
        )
        classes = metadata.get("thing_dataset_id_to_contiguous_id", classes)
        annotations = [
            {
                "id": i,
                "image_id": images[x["image_id"]],
                "category_id": classes[x["category_id"]],
                "bbox": x["bbox"],
                "area": _area(x),
                "iscrowd": int(bool(x.get("iscrowd"))),
            }
            for i, x in enumerate(content.get("annotations", ()), start=1)  # 0 means no match
            if x["image_id"] in images and x["category_id"] in classes
        ]
    numbered = {
        "images": [{"id": i} for i in images.values()],
        "categories": [{"id": i, "name": str(i)} for i in classes.values()],
        "annotations": annotations,
    }
    category_ids = sorted(classes, key=classes.__getitem__)
    return Objects(images, category_ids, numbered, "annotations" in content)


def _area(annotation: dict) -> float:
    _, _, width, height = annotation["bbox"]
    area = annotation.get("area")
    return width * height if area is None else min(area, 1e300)  # json's may be 10**400


def evaluate_boxes(
    objects: Objects, detections: np.ndarray, limits: Sequence[int]
) -> tuple[dict[str, float], list[float]]:
    """Return COCO's metrics of boxes, in percent, and the AP of each class.

    AP to APl, as Detectron2 names them, are at the last limit; if that is above 100, "AP@100" to
    "APl@100" are beside them. AR1, AR10 and so on, ARs, ARm and ARl are recalls. A number is NaN
    where there is no object to measure it by.

    Args:
        detections: (N, 7), float64: image, x, y, width, height, score, class; at least one.
        limits: rising numbers of detections that count, for each image and class.
    """
    evaluation = _accumulated(objects, detections, limits)
    # (thresholds, recalls, K, areas, limits) and (thresholds, K, areas, limits).
    precision, recall = evaluation["precision"], evaluation["recall"]
    results = _average_precisions(precision[..., -1])
    if 100 in limits[:-1]:
        at_100 = _average_precisions(precision[..., limits.index(100)])
        results |= {f"{name}@100": value for name, value in at_100.items()}
    results |= {f"AR{limit}": _mean(recall[:, :, 0, i]) for i, limit in enumerate(limits)}
    results |= {f"AR{name}": _mean(recall[:, :, i, -1]) for i, name in enumerate("sml", 1)}
    return results, [_mean(precision[:, :, k, 0, -1]) for k in range(precision.shape[2])]


def _average_precisions(precision: np.ndarray) -> dict[str, float]:
    """Return the APs of precisions, (thresholds, recalls, K, areas)."""
    everything, *by_area = np.moveaxis(precision, -1, 0)
    values = (everything, everything[0], everything[5], *by_area)
    return dict(zip(AP_NAMES, map(_mean, values), strict=True))


def _mean(values: np.ndarray) -> float:
    measured = values[values > -1]
    return float(np.mean(measured) * 100) if measured.size else float("nan")


def _accumulated(objects: Objects, detections: np.ndarray, limits: Sequence[int]) -> dict:
    """Return the arrays "precision" and "recall" of either library; say if it is not hotcoco."""
    content, evaluation = objects.content, COCOeval
    numbers = [[*x["bbox"], x["area"]] for x in content["annotations"]]
    if hotcoco is None:
        logger.info(
            "evaluating with pycocotools: hotcoco, many times faster with the same numbers, is "
            "not installed; install it with: pip install 'focal_retina[eval]'"
        )
    elif not (np.isfinite(numbers).all() and np.isfinite(detections).all()):
        logger.warning(
            "evaluating with pycocotools: a box, area or score is not finite, which hotcoco refuses"
        )
    else:
        evaluation = hotcoco.COCOeval
    with contextlib.redirect_stdout(io.StringIO()), paused_gc():
        if evaluation is COCOeval:
            truth = COCO()
            truth.dataset = {"info": {}, **content}
            truth.createIndex()
        else:
            truth = hotcoco.COCO(content)
        run = evaluation(truth, truth.loadRes(detections), "bbox")
        run.params.maxDets = list(limits)
        run.evaluate()
        run.accumulate()
    return run.eval
