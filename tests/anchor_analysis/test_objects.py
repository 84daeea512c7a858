"""The objects that are analyzed are those that training has."""

import os

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from helpers.small_datasets import coco_content, detectron2_mapper, write_dataset

from focal_retina.anchor_analysis.objects import load_objects
from focal_retina.data.register import register_datasets
from focal_retina.errors import UserError


def boxes_of_training(name, resize):
    """Return the boxes that Detectron2 trains on, of all images."""
    mapped = map(detectron2_mapper(resize), DatasetCatalog.get(name))
    return torch.cat([x["instances"].gt_boxes.tensor for x in mapped])


def test_odd_boxes_are_what_training_makes_of_them(tmp_path):
    content = coco_content()
    boxes = [[-5, 10, 20, 100], [60, 40, -30, -20], [3, 3, 0, 9], [70, 3, 5, 5], [1, 1, 1, 1]]
    boxes += [[float("nan"), 1, 2, 3], [1.5, 2.5, 9.25, 30], [1, 2, 30, 30]]
    template = {"category_id": 7, "area": 1, "image_id": 2, "iscrowd": 0}
    content["annotations"] += [{**template, "bbox": x, "id": i} for i, x in enumerate(boxes, 900)]
    content["annotations"][-1]["iscrowd"] = 1
    register_datasets([["odd", *write_dataset(tmp_path, content)]])
    resize = T.ResizeShortestEdge([96, 96], 333)
    objects = load_objects(["odd"], resize)
    assert torch.equal(objects.boxes, boxes_of_training("odd", resize))
    assert objects.num_crowds == 1
    assert objects.num_empty == 3
    assert {900, 901, 904, 906} < set(objects.annotation_ids)
    index = objects.annotation_ids.index(900)
    assert objects.file_names[objects.image_idxs[index]].endswith("1.png")
    assert float(objects.areas[index]) == 2000


@pytest.mark.skipif(
    not os.path.isfile(MetadataCatalog.get("coco_2017_train").json_file),
    reason="DETECTRON2_DATASETS holds no COCO",
)
def test_objects_of_coco_at_drawn_sizes_are_those_of_training():
    resize = T.ResizeShortestEdge([200, 240, 333], 400, "choice")
    np.random.seed(3)
    expected = boxes_of_training("coco_2017_train", resize)
    np.random.seed(3)
    objects = load_objects(["coco_2017_train"], resize)
    # Detectron2 adds width to x in float32.
    torch.testing.assert_close(objects.boxes, expected, rtol=0, atol=1e-4)
    assert objects.num_crowds > 0


def test_a_box_that_is_not_four_numbers_is_named_by_its_file():
    record = {"file_name": "a.png", "height": 9, "width": 9, "image_id": 1}
    record["annotations"] = [{"bbox": [1, 2, 3], "bbox_mode": 1, "category_id": 0}]
    resize = T.ResizeShortestEdge([9, 9])
    DatasetCatalog.register("broken", lambda: [record])
    with pytest.raises(UserError, match=r"a\.png.*\[1, 2, 3\]"):
        load_objects(["broken"], resize)
    DatasetCatalog.register("without_size", lambda: [{"file_name": "b.png"}])
    with pytest.raises(UserError, match=r"b\.png.*height and width"):
        load_objects(["without_size"], resize)


def test_images_without_objects_are_no_objects():
    record = {"file_name": "a.png", "height": 9, "width": 8, "annotations": []}
    DatasetCatalog.register("none", lambda: [record])
    objects = load_objects(["none", "none"], T.ResizeShortestEdge([18, 18]))
    assert len(objects) == 0
    assert objects.image_sizes.tolist() == [[20, 18]] * 2
