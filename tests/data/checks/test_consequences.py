"""What the findings say that Detectron2 does is what it does."""

import math
from functools import partial

import pytest
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from helpers import small_datasets as small

from focal_retina.data.register import register_datasets
from focal_retina.evaluation.evaluators import FasterCOCOEvaluator

PYCOCOTOOLS = partial(COCOEvaluator, use_fast_impl=False)
STOPS = (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError)


@pytest.fixture
def folder(tmp_path):
    small.write_pictures(tmp_path)
    return tmp_path


def trains_on(folder, content, **options):
    """Return, by image id, the boxes that training sees, in pixels of the original image."""
    json_file = small.write_json(folder / "a.json", content)
    inputs = small.detectron2_trains_on(json_file, str(folder), **options)
    return {i: (x["instances"].gt_boxes.tensor / 2).tolist() for i, x in inputs.items()}


@pytest.mark.parametrize(
    "box, seen",
    [
        ((4, 5, 6, 7), [[4, 5, 10, 12]]),
        ((math.nan, 5, 6, 7), []),
        ((4, 5, math.inf, 7), [[4, 5, small.WIDTH, 12]]),
        ((4, 5, math.nan, 7), []),
        ((30, 20, -4, 5), [[26, 20, 30, 25]]),
        ((30, 20, 4, 0), []),
        ((small.WIDTH, 20, 4, 5), []),
        ((-9, 20, 4, 5), []),
        ((-4, 20, 9, 5), [[0, 20, 5, 25]]),
    ],
)
def test_boxes_are_mirrored_cut_or_dropped_in_training(folder, box, seen):
    first, *others = trains_on(folder, small.changed("annotations", 3, bbox=box))[2]
    assert first == [6, 5, 26, 17]
    assert others == seen


@pytest.mark.parametrize(
    "content",
    [
        small.added("annotations", 3),
        *(
            small.changed("annotations", 3, **values)
            for values in (
                {"category_id": 8},
                {"category_id": [7]},
                {"bbox": [1, 2, 3]},
                {"bbox": [1, 2, 3, "4"]},
                {"bbox": [1, 2, 3, 10**400]},
                {"ignore": 1},
                {"segmentation": [3]},
            )
        ),
        small.changed("images", 1, width="64"),
        small.changed("images", 1, id="2"),
        small.changed("images", 1, file_name=""),
    ],
)
def test_these_errors_stop_training(folder, content):
    with pytest.raises(STOPS):
        trains_on(folder, content)


def test_an_image_id_twice_shows_the_last_picture_with_the_objects_of_both(folder):
    content = small.coco_content()
    content["images"][0]["id"] = 2
    content["annotations"][0]["image_id"] = content["annotations"][1]["image_id"] = 2
    seen = small.detectron2_trains_on(small.write_json(folder / "a.json", content), str(folder))
    assert seen[2]["file_name"] == f"{folder}/1.png"
    assert len(seen[2]["instances"]) == 4


def test_crowds_invalid_polygons_and_unknown_images_are_not_trained_on(folder):
    content = small.coco_content()
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][3]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][5]["image_id"] = 99
    assert [len(boxes) for boxes in trains_on(folder, content).values()] == [1, 1, 1]


def test_images_without_objects_or_with_crowds_only_are_skipped_unless_told_otherwise(folder):
    content = small.coco_content()
    content["annotations"] = content["annotations"][:3]
    content["annotations"][2]["iscrowd"] = 1
    assert set(trains_on(folder, content)) == {1}
    seen = trains_on(folder, content, filter_empty=False)
    assert [len(boxes) for boxes in seen.values()] == [2, 0, 0]


def test_a_category_id_twice_adds_a_class_and_all_its_objects_go_to_the_last(folder):
    json_file = small.write_json(folder / "a.json", small.added("categories", 0, name="x"))
    seen = small.detectron2_trains_on(json_file, str(folder))
    assert seen[1]["instances"].gt_classes.tolist() == [1, 2]
    register_datasets([["declared", json_file, str(folder)]])
    with pytest.raises(AssertionError, match="thing_classes"):
        DatasetCatalog.get("declared")


def average_precision(folder, content, evaluator_class):
    json_file = small.write_json(folder / "a.json", content)
    return small.detectron2_evaluates(json_file, str(folder), evaluator_class)


@pytest.mark.parametrize("evaluator_class", [FasterCOCOEvaluator, PYCOCOTOOLS])
@pytest.mark.parametrize(
    "values, is_found",
    [
        ({}, True),
        ({"iscrowd": 1}, True),
        ({"bbox": [math.nan, 8, 20, 13]}, False),
        ({"bbox": [7, 8, math.inf, 13]}, False),
        ({"bbox": [27, 21, -20, -13]}, False),
        ({"bbox": [7, 8, 20, 0]}, False),
        ({"bbox": [small.WIDTH, 8, 20, 13]}, False),
        ({"id": 0}, False),
    ],
)
def test_evaluation_misses_objects_of_broken_boxes_and_of_id_0(
    folder, evaluator_class, values, is_found
):
    content = small.changed("annotations", 3, **values)
    found = average_precision(folder, content, evaluator_class)
    assert (found == pytest.approx(100)) is is_found


@pytest.mark.parametrize("evaluator_class", [FasterCOCOEvaluator, PYCOCOTOOLS])
def test_evaluation_misses_the_second_of_equal_annotations(folder, evaluator_class):
    content = small.added("annotations", 3, id=20)
    assert average_precision(folder, content, evaluator_class) < 90


@pytest.mark.parametrize("key", ["area", "iscrowd"])
def test_keys_of_evaluation_may_be_missing_but_for_pycocotools(folder, key):
    content = small.changed("annotations", 3, **{key: small.MISSING})
    assert len(trains_on(folder, content)) == 3
    assert average_precision(folder, content, FasterCOCOEvaluator) == pytest.approx(100)
    with pytest.raises(KeyError, match=key):
        average_precision(folder, content, PYCOCOTOOLS)


@pytest.mark.parametrize("kind, refers", [("images", "image_id"), ("categories", "category_id")])
def test_ids_that_are_strings_train_but_stop_faster_coco_eval(folder, kind, refers):
    content = small.coco_content()
    for entry in content[kind]:
        entry["id"] = str(entry["id"])
    for annotation in content["annotations"]:
        annotation[refers] = str(annotation[refers])
    assert len(trains_on(folder, content)) == 3
    with pytest.raises((AssertionError, TypeError)):
        average_precision(folder, content, FasterCOCOEvaluator)


@pytest.mark.parametrize("annotation_id", ["13", 13.0])
def test_annotation_ids_that_are_no_integers_train_but_stop_faster_coco_eval(folder, annotation_id):
    content = small.changed("annotations", 3, id=annotation_id)
    assert len(trains_on(folder, content)) == 3
    with pytest.raises(TypeError):
        average_precision(folder, content, FasterCOCOEvaluator)
