"""All numbers are pycocotools', to the bit, by either library."""

import contextlib
import io
import json
import logging
import math

import numpy as np
import pytest
from detectron2.evaluation import COCOEvaluator
from helpers.random_detections import (
    detections_near,
    evaluated,
    perfect_detections,
    random_content,
    register,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focal_retina.evaluation import average_precision
from focal_retina.evaluation.box_evaluator import BoxEvaluator

pytest.importorskip("hotcoco")

# Of the dataset, and of the detections.
CASES = {
    "several classes and sizes": ({}, {}),
    "one class, equal scores": ({"classes": 1}, {"rounded": True}),
    "crowds": ({"crowds": 0.6}, {"rounded": True}),
    "no objects": ({"objects": 0}, {}),
    "more classes than objects": ({"classes": 1203, "images": 4}, {"number": 40}),
    "more detections than count": ({"classes": 1, "images": 3}, {"number": 130}),
}


@pytest.fixture(params=["hotcoco", "pycocotools"])
def library(request, monkeypatch):
    if request.param == "pycocotools":
        monkeypatch.setattr(average_precision, "hotcoco", None)
    return request.param


def both(tmp_path, content, detections_of, limit=None, **options):
    """Return the results of Detectron2's evaluator with pycocotools, and ours."""
    name = register(f"random_{limit}", content, tmp_path)
    evaluators = (
        COCOEvaluator(
            name,
            ("bbox",),
            output_dir=str(tmp_path / "expected"),
            use_fast_impl=False,
            max_dets_per_image=limit,
        ),
        BoxEvaluator(name, output_dir=str(tmp_path / "ours"), max_dets_per_image=limit),
    )
    return [evaluated(x, content, detections_of, **options)["bbox"] for x in evaluators]


@pytest.mark.parametrize("case", CASES)
def test_results_and_their_file_are_detectron2s_to_the_bit(case, library, tmp_path):
    of_data, of_detections = CASES[case]
    content = random_content(**of_data)
    expected, ours = both(tmp_path, content, detections_near, **of_detections)
    np.testing.assert_equal(ours, expected)
    assert list(ours) == list(expected)
    assert case == "no objects" or 0 < ours["AP"] < 100
    files = [tmp_path / x / "coco_instances_results.json" for x in ("expected", "ours")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_all_twelve_numbers_are_pycocotools_to_the_bit(library, tmp_path):
    content = random_content(5, images=30)
    name = register("twelve", content, tmp_path)
    evaluator = BoxEvaluator(name, output_dir=str(tmp_path))
    evaluated(evaluator, content, detections_near)
    objects = average_precision.read_objects(name)
    found = json.loads((tmp_path / "coco_instances_results.json").read_text())
    rows = [
        [objects.images[x["image_id"]], *x["bbox"], x["score"], x["category_id"] // 2]
        for x in found
    ]
    ours, _ = average_precision.evaluate_boxes(objects, np.array(rows), [1, 10, 100])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "twelve.json"))
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert list(ours.values()) == [100 * x for x in run.stats]


def test_ap_is_at_the_limit_and_beside_it_at_100(library, tmp_path):
    content = random_content(classes=1, images=2, objects=0)
    boxes = [[3.0 * i, 2.0, 2.0, 30.0] for i in range(160)]
    content["annotations"] = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 60.0, "iscrowd": 0}
        for i, box in enumerate(boxes, start=1)
    ]
    expected, ours = both(tmp_path, content, perfect_detections, 200)
    assert ours["AP"] == expected["AP"] == 100
    expected, at_100 = both(tmp_path, content, perfect_detections)
    assert ours["AP@100"] == at_100["AP"] == expected["AP"] < 65
    assert "AP@100" not in at_100


@pytest.mark.parametrize(
    "ids_of", [lambda i: i, lambda i: 2**63 + i, lambda i: -5 - i, str, lambda i: i + 0.5]
)
def test_annotation_ids_of_any_kind_give_the_right_ap(ids_of, library, tmp_path):
    content = random_content(1)
    for i, annotation in enumerate(content["annotations"]):
        annotation["id"] = ids_of(i)
    name = register("annotation_ids", content, tmp_path)
    assert evaluated(BoxEvaluator(name), content, perfect_detections)["bbox"]["AP"] == 100


@pytest.mark.parametrize(
    "id_of", [lambda i: 2**60 + i, lambda i: 10**400 + i, lambda i: -i, "picture{}".format]
)
def test_image_ids_of_any_kind_give_the_right_ap_and_stay_as_they_are(id_of, library, tmp_path):
    content = random_content(2)
    for entry, key in [(x, "id") for x in content["images"]] + [
        (x, "image_id") for x in content["annotations"]
    ]:
        entry[key] = id_of(entry[key])
    name = register("image_ids", content, tmp_path)
    evaluator = BoxEvaluator(name, output_dir=str(tmp_path))
    assert evaluated(evaluator, content, perfect_detections)["bbox"]["AP"] == 100
    found = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {x["image_id"] for x in found} == {x["image_id"] for x in content["annotations"]}


def test_what_evaluation_does_not_need_may_be_missing_or_strange(library, tmp_path):
    content = random_content(3, crowds=0)
    for _ in range(500):
        content["info"] = [content.get("info")]
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    content["annotations"][0]["area"] = 10**400
    name = register("strange", content, tmp_path)
    assert evaluated(BoxEvaluator(name), content, perfect_detections)["bbox"]["AP"] == 100


@pytest.mark.parametrize("where", ["box", "area", "score"])
def test_numbers_that_are_not_finite_are_for_pycocotools_which_the_log_says(
    where, tmp_path, caplog
):
    content = random_content(4, crowds=0)
    if where == "box":
        content["annotations"][0]["bbox"][0] = math.nan
    elif where == "area":
        content["annotations"][0]["area"] = math.nan

    def detect(content, image):
        found = detections_near(content, image)
        if where == "score" and image["id"] == 1:
            found.scores[0] = math.nan
        return found

    expected, ours = both(tmp_path, content, detect)
    np.testing.assert_equal(ours, expected)
    assert "evaluating with pycocotools: a box, area or score is not finite" in caplog.text


def test_without_hotcoco_the_log_says_how_to_install_it(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(average_precision, "hotcoco", None)
    content = random_content()
    with caplog.at_level(logging.INFO):
        evaluated(BoxEvaluator(register("plain", content, tmp_path)), content, detections_near)
    assert "pip install 'focal_retina[eval]'" in caplog.text
