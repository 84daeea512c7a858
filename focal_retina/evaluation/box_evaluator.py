"""Detectron2's COCO evaluation, where boxes are all that is to be evaluated, as arrays."""

import itertools
import json
import logging
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table

from focal_retina.errors import UserError
from focal_retina.evaluation.average_precision import (
    AP_NAMES,
    Objects,
    evaluate_boxes,
    read_objects,
)
from focal_retina.files import replacing
from focal_retina.run_files import spared

logger = logging.getLogger(__name__)


class _Found(NamedTuple):
    images: list[tuple[object, int]]  # id, and how many detections
    rows: np.ndarray  # (N, 6), float32: x, y, width, height, score, class; image by image


class BoxEvaluator(DatasetEvaluator):
    """Gives the results of Detectron2's ``COCOEvaluator``, and takes its arguments.

    It keeps 24 bytes of a detection. Where a model has masks, keypoints or proposals,
    ``COCOEvaluator`` itself takes its place.

    Args:
        dataset_name: registered, of COCO json or in Detectron2's format.
        max_dets_per_image: how many detections of an image and class count, 100 by default. Above
            that, "AP@100" and so on are beside the "AP" of that limit.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        **kwargs,
    ):
        self._name, self._distributed, self._output_dir = dataset_name, distributed, output_dir
        limit = max_dets_per_image or 100
        self._limits = sorted({1, 10, min(limit, 100), limit})
        kwargs |= {"output_dir": output_dir, "max_dets_per_image": max_dets_per_image}
        self._arguments = {"tasks": tasks, "distributed": distributed, **kwargs}
        self.reset()

    def reset(self) -> None:
        # One block that grows: small ones among a model's large tensors would scatter the memory.
        self._images, self._values = [], array("f")
        self._detectron2s: COCOEvaluator | None = None

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if not all(map(_is_boxes, outputs)):
            self._become_detectron2s()
            self._detectron2s.process(inputs, outputs)
            return
        for image, output in zip(inputs, outputs, strict=True):
            rows = _rows(output["instances"])
            self._images.append((image["image_id"], len(rows)))
            self._values.frombytes(rows.tobytes())

    def evaluate(self) -> dict:
        """Return the metrics by task; the main process has them, and writes all detections."""
        if self._distributed:
            comm.synchronize()
            if any(comm.all_gather(self._detectron2s is not None)):
                self._become_detectron2s()  # this process may have had no images
        if self._detectron2s is not None:
            return self._detectron2s.evaluate()
        found = _Found(self._images, np.frombuffer(self._values, np.float32).reshape(-1, 6))
        shares = comm.gather(found) if self._distributed else [found]
        if not shares:
            return {}  # in the main process alone they are gathered
        images, rows = zip(*shares, strict=True)
        found = _Found(list(itertools.chain(*images)), np.concatenate(rows))
        objects = read_objects(self._name)
        if self._output_dir:
            self._write(found, objects)
        if not objects.has_annotations:
            logger.info(f"{self._name} has no annotations: its detections are not evaluated")
            return {}
        return {"bbox": self._metrics(objects, _detections(found, objects, self._name))}

    def _become_detectron2s(self) -> None:
        if self._detectron2s is None:
            self._detectron2s = COCOEvaluator(self._name, **self._arguments)
            self._detectron2s.reset()

    def _write(self, found: _Found, objects: Objects) -> None:
        """Write what Detectron2 writes; a disk that refuses it does not end a training."""
        path = os.path.join(self._output_dir, "coco_instances_results.json")
        with spared(path):
            os.makedirs(self._output_dir, exist_ok=True)
            with replacing(path) as unfinished, open(unfinished, "w") as file:
                file.write("[")
                file.writelines(_results(found, objects.category_ids))
                file.write("]")

    def _metrics(self, objects: Objects, detections: np.ndarray) -> dict[str, float]:
        """Return the results by name and log them, and why those are NaN that are."""
        name = self._name
        classes = MetadataCatalog.get(name).get("thing_classes", ())
        ap_names = [f"AP-{x}" for x in classes] if len(classes) > 1 else []
        if not len(detections):
            logger.warning(
                f"the model detects nothing in the {len(objects.images)} images of {name}, so "
                "every AP is NaN: its scores are below its threshold, as early in training, or NaN"
            )
            return dict.fromkeys((*AP_NAMES, *ap_names), float("nan"))
        results, by_class = evaluate_boxes(objects, detections, self._limits)
        recalls = {x: results.pop(x) for x in list(results) if x.startswith("AR")}
        logger.info(f"Average precision (%) on {name}:\n{create_small_table(results)}")
        logger.info(f"Average recall (%) on {name}:\n{create_small_table(recalls)}")
        if undefined := [x for x, value in results.items() if np.isnan(value)]:
            logger.info(f"{name} has no objects to measure {', '.join(undefined)} by: they are NaN")
        if ap_names:
            by_class = dict(zip(ap_names, by_class, strict=True))
            logger.info(", ".join(f"{x} {ap:.1f}" for x, ap in by_class.items()))
            results |= by_class
        return results


def _is_boxes(output: dict) -> bool:
    if "instances" not in output or "proposals" in output:
        return False
    return not {"pred_masks", "pred_keypoints"} & output["instances"].get_fields().keys()


def _rows(instances: Instances) -> np.ndarray:
    """Return the detections of an image, (n, 6), float32: x, y, width, height, score, class."""
    boxes = instances.pred_boxes.tensor.float()
    columns = boxes[:, :2], boxes[:, 2:] - boxes[:, :2], instances.scores[:, None]
    return torch.cat([*columns, instances.pred_classes[:, None]], dim=1).float().cpu().numpy()


def _detections(found: _Found, objects: Objects, name: str) -> np.ndarray:
    """Return all detections, as :func:`evaluate_boxes` takes them."""
    ids, counts = zip(*found.images, strict=True) if found.images else ((), ())
    if unknown := [x for x in ids if x not in objects.images]:
        raise UserError(f"{name} has no image {unknown[0]!r}: evaluate on the set that it is of")
    images = np.repeat([objects.images[x] for x in ids], counts)
    return np.column_stack([images, found.rows.astype(np.float64)])


def _results(found: _Found, category_ids: list) -> Iterator[str]:
    """Yield the detections as entries of COCO's results, with what separates them."""
    separator, rows = "", iter(found.rows)
    for image_id, count in found.images:
        for *box, score, label in map(np.ndarray.tolist, itertools.islice(rows, count)):
            entry = {"image_id": image_id, "category_id": category_ids[int(label)]}
            yield separator + json.dumps({**entry, "bbox": box, "score": score})
            separator = ", "
