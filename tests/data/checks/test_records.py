"""Datasets that are no COCO json are checked as their loader returns them."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.registered import table_of_dataset, table_of_records


def record(**changes):
    annotation = {"bbox": [4, 5, 24, 15], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    image = {"file_name": "/a/0.png", "image_id": "x", "width": 64, "height": 48}
    return {**image, "annotations": [annotation | changes]}


def found(records, classes=("cat",)):
    findings = check_entries(table_of_records(records, classes, "mine"))
    return {finding.problem.label: [place.path for place in finding.places] for finding in findings}


@pytest.mark.parametrize("box", [[4, 5, 24, 15], (4, 5, 24, 15), np.float32([4, 5, 24, 15])])
def test_good_records_have_no_finding(box):
    assert found([record(bbox=box)]) == {}
    assert found([record(bbox=box, category_id=np.int64(0))]) == {}
    assert found([record(bbox=[40, 30, 24, 15], bbox_mode=BoxMode.XYWH_ABS)]) == {}
    assert found([record(category_id=5)], classes=None) == {}  # those of the records


def test_records_may_leave_out_size_and_annotations():
    good = record()
    del good["width"], good["height"]
    assert found([good, {"file_name": "/a/1.png"}]) == {"image-empty": ["records[1].id"]}


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({"bbox": [24, 5, 4, 15]}, "box-negative"),
        ({"bbox": [4, 5, 4, 15]}, "box-empty"),
        ({"bbox": [4, 5, 24, 60]}, "box-across-border"),
        ({"bbox": [4, 5, 24]}, "malformed"),
        ({"bbox_mode": BoxMode.XYWHA_ABS}, "malformed"),
        ({"category_id": 1}, "category-unknown"),
        ({"category_id": -1}, "category-unknown"),
        ({"category_id": "cat"}, "category-unknown"),
    ],
)
def test_a_mistake_is_named_by_its_place(changes, rule):
    (path,) = found([record(), record(**changes) | {"file_name": "/a/1.png"}])[rule]
    assert path.rsplit(".", 1)[0] == "records[1].annotations[0]"


def test_a_loader_runs_once_for_the_check_and_training():
    calls = []
    DatasetCatalog.register("mine", lambda: calls.append(1) or [record()])
    MetadataCatalog.get("mine").thing_classes = ["cat"]
    table = table_of_dataset("mine")
    assert (table.source, table.categories.names) == ("mine", ["cat"])
    assert [len(DatasetCatalog.get("mine")) for _ in range(2)] == [1, 1]
    assert len(calls) == 2  # once for both the check and the first to load it, then as ever
