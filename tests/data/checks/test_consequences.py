"""What the findings say that Detectron2 does is what it does."""

from functools import partial
from math import inf, nan

import pytest
from detectron2.evaluation import COCOEvaluator
from helpers import small_datasets as small
from helpers.small_datasets import WIDTH, added, changed

from focal_retina.data.register import register_datasets
from focal_retina.errors import UserError
from focal_retina.evaluation.box_evaluator import BoxEvaluator

PYCOCOTOOLS = partial(COCOEvaluator, use_fast_impl=False)
EVALUATORS = (BoxEvaluator, PYCOCOTOOLS)
STOPS = (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError)


def trains_on(folder, content, **options):
    """Return, by image id, the boxes that training sees, in pixels of the original image."""
    inputs = small.detectron2_trains_on(*small.write_dataset(folder, content), **options)
    return {i: (x["instances"].gt_boxes.tensor / 2).tolist() for i, x in inputs.items()}


def average_precision(folder, content, evaluator_class):
    return small.detectron2_evaluates(*small.write_dataset(folder, content), evaluator_class)


@pytest.mark.parametrize(
    "values, seen, finders",
    [
        ({}, [[7, 5, 27, 18]], 2),
        ({"iscrowd": 1}, [], 2),
        ({"segmentation": [[1, 2, 3, 4]]}, [], 2),
        ({"image_id": 99}, [], 0),
        ({"id": 0}, [[7, 5, 27, 18]], 1),  # pycocotools takes 0 for no match
        ({"bbox": [nan, 5, 20, 13]}, [], 2),  # evaluation takes NaN for the x that was found
        ({"bbox": [nan, 8, 20, 13]}, [], 0),
        ({"bbox": [7, 5, nan, 13]}, [], 2),
        ({"bbox": [7, 5, inf, 13]}, [[7, 5, WIDTH, 18]], 0),
        ({"bbox": [27, 18, -20, -13]}, [[7, 5, 27, 18]], 0),
        ({"bbox": [30, 20, -4, 5]}, [[26, 20, 30, 25]], 0),
        ({"bbox": [7, 5, 20, 0]}, [], 0),
        ({"bbox": [WIDTH, 5, 20, 13]}, [], 0),
        ({"bbox": [-29, 5, 20, 13]}, [], 0),
        ({"bbox": [-4, 20, 9, 5]}, [[0, 20, 5, 25]], 0),
    ],
)
def test_what_training_sees_of_an_object_and_how_many_of_two_evaluators_find_it(
    tmp_path, values, seen, finders
):
    content = changed("annotations", 3, **values)
    assert trains_on(tmp_path, content)[2] == [[6, 5, 26, 17], *seen]
    found = [average_precision(tmp_path, content, evaluator) for evaluator in EVALUATORS]
    assert sum(precision == pytest.approx(100) for precision in found) == finders


@pytest.mark.parametrize(
    "change, kind, number, values",
    [
        (added, "annotations", 3, {}),
        (changed, "annotations", 3, {"category_id": 8}),
        (changed, "annotations", 3, {"category_id": [7]}),
        (changed, "annotations", 3, {"bbox": [1, 2, 3]}),
        (changed, "annotations", 3, {"bbox": [1, 2, 3, "4"]}),
        (changed, "annotations", 3, {"bbox": [1, 2, 3, 10**400]}),
        (changed, "annotations", 3, {"ignore": 1}),
        (changed, "annotations", 3, {"segmentation": [3]}),
        (changed, "images", 1, {"width": "64"}),
        (changed, "images", 1, {"id": "2"}),
        (changed, "images", 1, {"file_name": ""}),
    ],
)
def test_these_errors_stop_training(tmp_path, change, kind, number, values):
    with pytest.raises(STOPS):
        trains_on(tmp_path, change(kind, number, **values))


def test_an_image_id_twice_shows_the_last_picture_with_the_objects_of_both(tmp_path):
    content = changed("images", 0, id=2)
    content["annotations"][0]["image_id"] = content["annotations"][1]["image_id"] = 2
    seen = small.detectron2_trains_on(*small.write_dataset(tmp_path, content))
    assert seen[2]["file_name"] == f"{tmp_path}/images/1.png"
    assert len(seen[2]["instances"]) == 4


def test_images_without_objects_or_with_crowds_only_are_skipped_unless_told_otherwise(tmp_path):
    content = changed("annotations", 2, iscrowd=1)
    del content["annotations"][3:]
    assert set(trains_on(tmp_path, content)) == {1}
    seen = trains_on(tmp_path, content, filter_empty=False)
    assert [len(boxes) for boxes in seen.values()] == [2, 0, 0]


def test_a_category_id_twice_adds_a_class_and_all_its_objects_go_to_the_last(tmp_path):
    dataset = small.write_dataset(tmp_path, added("categories", 0, name="x"))
    seen = small.detectron2_trains_on(*dataset)
    assert seen[1]["instances"].gt_classes.tolist() == [1, 2]
    with pytest.raises(UserError, match="two categories of the id 7"):
        register_datasets([["declared", *dataset]])


@pytest.mark.parametrize("evaluator_class", EVALUATORS)
def test_evaluation_misses_the_second_of_equal_annotations(tmp_path, evaluator_class):
    assert average_precision(tmp_path, added("annotations", 3, id=20), evaluator_class) < 90


@pytest.mark.parametrize("key", ["area", "iscrowd"])
def test_keys_of_evaluation_may_be_missing_but_for_pycocotools(tmp_path, key):
    content = changed("annotations", 3, **{key: small.MISSING})
    assert len(trains_on(tmp_path, content)) == 3
    assert average_precision(tmp_path, content, BoxEvaluator) == pytest.approx(100)
    with pytest.raises(KeyError, match=key):
        average_precision(tmp_path, content, PYCOCOTOOLS)


@pytest.mark.parametrize(
    "content",
    [
        small.with_text_ids("images", "image_id"),
        small.with_text_ids("categories", "category_id"),
        changed("annotations", 3, id="13"),
        changed("annotations", 3, id=13.5),
    ],
)
def test_ids_that_are_no_integers_train_and_evaluate(tmp_path, content):
    assert len(trains_on(tmp_path, content)) == 3
    assert average_precision(tmp_path, content, BoxEvaluator) == pytest.approx(100)
