"""The evaluator of boxes in its surroundings: processes, disks, masks, memory, the log."""

import logging
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from helpers.processes import run_processes
from helpers.random_detections import (
    detections_near,
    evaluated,
    perfect_detections,
    random_content,
    register,
)

from focal_retina.errors import UserError
from focal_retina.evaluation import average_precision
from focal_retina.evaluation.box_evaluator import BoxEvaluator
from focal_retina.run_files import tell_missing


@pytest.fixture
def content():
    return random_content(7)


@pytest.fixture
def name(content, tmp_path):
    return register("boxes", content, tmp_path)


class Closed:
    """A stream whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError

    flush = write


@pytest.mark.parametrize("installed", [True, False])
def test_a_closed_stdout_does_not_end_the_evaluation(installed, name, content, monkeypatch):
    if not installed:
        monkeypatch.setattr(average_precision, "hotcoco", None)
    evaluator = BoxEvaluator(name)
    monkeypatch.setattr(sys, "stdout", Closed())
    result = evaluated(evaluator, content, detections_near)
    monkeypatch.undo()
    assert result["bbox"]["AP"] > 0


def test_without_detections_every_ap_is_nan_and_one_line_says_why(name, content, caplog):
    result = evaluated(BoxEvaluator(name), content, detections_near, number=0)["bbox"]
    assert {"AP", "APl", "AP-class0", "AP-class2"} < result.keys()
    assert all(map(math.isnan, result.values()))
    assert [x.message for x in caplog.records if "NaN" in x.message] == [
        "the model detects nothing in the 10 images of boxes, so every AP is NaN: its scores are "
        "below its threshold, as early in training, or NaN"
    ]


def test_a_size_without_objects_is_named(content, tmp_path, caplog):
    for annotation in content["annotations"]:
        annotation["area"] = 2000.0
    small = register("medium", content, tmp_path)
    with caplog.at_level(logging.INFO):
        evaluated(BoxEvaluator(small), content, detections_near)
    assert "medium has no objects to measure APs, APl by: they are NaN" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_error_line_only(name, content, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    evaluator = BoxEvaluator(name, output_dir=str(tmp_path / "file" / "inference"))
    assert evaluated(evaluator, content, detections_near)["bbox"]["AP"] > 0
    assert "coco_instances_results.json cannot be written (Not a directory)" in caplog.text
    tell_missing()
    assert "coco_instances_results.json (Not a directory)" in caplog.messages[-1]


def test_without_annotations_the_detections_are_written_and_not_evaluated(
    content, tmp_path, caplog
):
    path = tmp_path / "coco_instances_results.json"
    register("public", content, tmp_path)
    found = {k: v for k, v in content.items() if k != "annotations"}
    unlabelled = register("unlabelled", found, tmp_path)
    with caplog.at_level(logging.INFO):
        evaluator = BoxEvaluator(unlabelled, output_dir=str(tmp_path))
        assert evaluated(evaluator, content, detections_near) == {}
    assert path.stat().st_size > 1000
    assert "unlabelled has no annotations: its detections are not evaluated" in caplog.text


def test_images_of_another_dataset_are_named(name, content):
    content["images"][0]["id"] = "elsewhere"
    content["images"] = content["images"][:1]
    with pytest.raises(UserError, match="boxes has no image 'elsewhere'"):
        evaluated(BoxEvaluator(name), content, perfect_detections)


def with_masks(content, image, **options):
    """Return detections with masks that are their boxes."""
    found = detections_near(content, image, **options)
    masks = torch.zeros(len(found), *found.image_size, dtype=torch.bool)
    for mask, box in zip(masks, found.pred_boxes.tensor.int().tolist(), strict=True):
        mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    found.pred_masks = masks
    return found


def test_masks_are_evaluated_by_detectron2(content, tmp_path):
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotation["iscrowd"] = 0
    name = register("masks", content, tmp_path)
    expected, ours = (
        evaluated(x(name), content, with_masks) for x in (COCOEvaluator, BoxEvaluator)
    )
    np.testing.assert_equal(ours, expected)
    assert ours["segm"]["AP"] > 0


def evaluate_one_share(folder, detections_of):
    """Evaluate every second image in each of two processes; write what the main one returns."""
    content = random_content(7)
    if detections_of is with_masks:
        content["images"] = content["images"][:1]  # one process has none
        for annotation in content["annotations"]:
            annotation["segmentation"] = [[0, 0, 50, 0, 50, 50, 0, 50]]
    name = register(f"shares{comm.get_rank()}", content, folder)
    evaluator = BoxEvaluator(name, output_dir=str(folder / "inference"))
    evaluator.reset()
    for image in content["images"][comm.get_rank() :: 2]:
        found = detections_of(content, image)
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    results = evaluator.evaluate()
    assert bool(results) == comm.is_main_process()
    if comm.is_main_process():
        torch.save(dict(results), folder / "results.pth")


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_give_the_results_of_one(name, content, tmp_path):
    run_processes(2, evaluate_one_share, tmp_path, detections_near)
    expected = evaluated(BoxEvaluator(name), content, detections_near)
    np.testing.assert_equal(torch.load(tmp_path / "results.pth"), expected)


@pytest.mark.slow
@pytest.mark.distributed
def test_a_process_without_images_joins_the_evaluation_of_masks(tmp_path):
    run_processes(2, evaluate_one_share, tmp_path, with_masks)
    assert torch.load(tmp_path / "results.pth").keys() == {"bbox", "segm"}


def resident_mb():
    (line,) = (x for x in Path("/proc/self/status").open() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_of_images_between_large_tensors_a_thousand_take_less_than_5_mb(name):
    evaluator = BoxEvaluator(name)

    def process(images):
        for _ in range(images):
            torch.rand(3, 300, 400)  # as a model's, which are freed
            found = Instances(
                (400, 400),
                pred_boxes=Boxes(torch.rand(100, 4)),
                scores=torch.rand(100),
                pred_classes=torch.zeros(100, dtype=torch.int64),
            )
            evaluator.process([{"image_id": 1}], [{"instances": found}])

    process(200)
    before = resident_mb()
    process(4000)
    assert (resident_mb() - before) / 4 < 5


def test_perfect_detections_of_the_same_model_are_100_again_after_a_reset(name, content):
    evaluator = BoxEvaluator(name)
    for _ in range(2):
        assert evaluated(evaluator, content, perfect_detections)["bbox"]["AP"] == 100


def test_nothing_is_printed(name, content, capfd):
    assert (
        "AP@100"
        in evaluated(BoxEvaluator(name, max_dets_per_image=130), content, detections_near)["bbox"]
    )
    assert capfd.readouterr() == ("", "")
