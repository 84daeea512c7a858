"""Results that are whole after each image, whatever comes then."""

import json

import pytest
import torch
from detectron2.structures import Boxes, Instances
from helpers.mounts import files_limited_to
from pycocotools.coco import COCO

from focal_retina.errors import UserError
from focal_retina.inference.coco_results import CocoResults


def instances(count):
    boxes = Boxes(torch.arange(4.0 * count).reshape(count, 4))
    classes = torch.arange(count) % 2
    return Instances((40, 60), pred_boxes=boxes, scores=torch.ones(count), pred_classes=classes)


def results_of(folder, counts, start=""):
    """Return results after images of so many detections, checked after each."""
    results = CocoResults(folder, ["cat", "dog"], [7, 3])
    for number, count in enumerate(counts, start=1):
        assert results.add(f"picture {number}", instances(count)) == number
        truth = COCO(folder / "unfinished_images.json")
        assert len(truth.imgs) == number
        found = json.loads((folder / "unfinished_predictions.json").read_text())
        assert len(found) == sum(counts[:number])
    return results


@pytest.mark.parametrize("counts", [[0], [2, 0, 3], [0, 0, 1]], ids=str)
def test_both_files_are_whole_after_each_image(tmp_path, counts):
    results_of(tmp_path, counts).finish()
    assert {path.name for path in tmp_path.iterdir()} == {"images.json", "predictions.json"}
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == sum(counts)
    images = json.loads((tmp_path / "images.json").read_text())
    assert [x["id"] for x in images["images"]] == list(range(1, len(counts) + 1))
    assert [x["id"] for x in images["categories"]] == [7, 3]


def test_results_of_before_stay_where_no_image_could_be_read(tmp_path):
    results_of(tmp_path, [1]).finish()
    results_of(tmp_path, []).finish()
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"images.json", "predictions.json"}


def test_results_of_before_stay_until_the_new_ones_are_finished(tmp_path):
    results_of(tmp_path, [1]).finish()
    results = results_of(tmp_path, [2, 2])
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    results.finish()
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 4


def test_a_full_disk_keeps_what_came_before(tmp_path):
    results = results_of(tmp_path, [3, 2])
    with files_limited_to(1500), pytest.raises(UserError, match=r"predictions.json cannot be wri"):
        results.add("too large", instances(50))
    results.finish()
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 5


def test_names_that_are_no_text_are_kept(tmp_path):
    results = CocoResults(tmp_path, ["cat", "dog"], [1, 2])
    results.add("\udcff\n\x1b", instances(1))
    results.finish()
    images = json.loads((tmp_path / "images.json").read_text())["images"]
    assert images[0]["file_name"] == "\udcff\n\x1b"
