"""What the findings say that Detectron2 does is what it does."""

import math

import pytest
from detectron2.data import DatasetCatalog
from small_datasets import WIDTH, coco_content, detectron2_trains_on, write_json, write_pictures
from tiny_jobs import catalogs_restored

from focal_retina.data.register import register_datasets

STOPS = (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError)


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path)
    return tmp_path


def trains_on(folder, content, **options):
    """Return, by image id, the boxes that training sees, in pixels of the original image."""
    inputs = detectron2_trains_on(write_json(folder / "a.json", content), str(folder), **options)
    return {i: (x["instances"].gt_boxes.tensor / 2).tolist() for i, x in inputs.items()}


def with_box(*box):
    content = coco_content()
    content["annotations"][3]["bbox"] = list(box)
    return content


@pytest.mark.parametrize(
    "box, seen",
    [
        ((4, 5, 6, 7), [[4, 5, 10, 12]]),
        ((math.nan, 5, 6, 7), []),
        ((4, 5, math.inf, 7), [[4, 5, WIDTH, 12]]),
        ((4, 5, math.nan, 7), []),
        ((30, 20, -4, 5), [[26, 20, 30, 25]]),
        ((30, 20, 4, 0), []),
        ((WIDTH, 20, 4, 5), []),
        ((-9, 20, 4, 5), []),
        ((-4, 20, 9, 5), [[0, 20, 5, 25]]),
    ],
)
def test_boxes_are_mirrored_cut_or_dropped_in_training(folder, box, seen):
    first, *others = trains_on(folder, with_box(*box))[2]
    assert first == [6, 5, 26, 17]
    assert others == seen


def append(content, kind, number, **values):
    content[kind].append({**content[kind][number], **values})


def set_values(content, kind, number, **values):
    content[kind][number].update(values)


@pytest.mark.parametrize(
    "apply, kind, number, values",
    [
        (append, "annotations", 3, {}),
        (set_values, "annotations", 3, {"category_id": 8}),
        (set_values, "annotations", 3, {"category_id": [7]}),
        (set_values, "annotations", 3, {"bbox": [1, 2, 3]}),
        (set_values, "annotations", 3, {"bbox": [1, 2, 3, "4"]}),
        (set_values, "annotations", 3, {"bbox": [1, 2, 3, 10**400]}),
        (set_values, "annotations", 3, {"ignore": 1}),
        (set_values, "annotations", 3, {"segmentation": [3]}),
        (set_values, "images", 1, {"width": "64"}),
        (set_values, "images", 1, {"id": "2"}),
        (set_values, "images", 1, {"file_name": ""}),
    ],
)
def test_these_errors_stop_training(folder, apply, kind, number, values):
    content = coco_content()
    apply(content, kind, number, **values)
    json_file = write_json(folder / "a.json", content)
    with pytest.raises(STOPS):
        detectron2_trains_on(json_file, str(folder))


def test_an_image_id_twice_shows_the_last_picture_with_the_objects_of_both(folder):
    content = coco_content()
    content["images"][0]["id"] = 2
    content["annotations"][0]["image_id"] = content["annotations"][1]["image_id"] = 2
    seen = detectron2_trains_on(write_json(folder / "a.json", content), str(folder))
    assert seen[2]["file_name"] == f"{folder}/1.png"
    assert len(seen[2]["instances"]) == 4


def test_crowds_invalid_polygons_and_unknown_images_are_not_trained_on(folder):
    content = coco_content()
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][3]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][5]["image_id"] = 99
    assert [len(boxes) for boxes in trains_on(folder, content).values()] == [1, 1, 1]


def test_images_without_objects_or_with_crowds_only_are_skipped_unless_told_otherwise(folder):
    content = coco_content()
    content["annotations"] = content["annotations"][:3]
    content["annotations"][2]["iscrowd"] = 1
    assert set(trains_on(folder, content)) == {1}
    seen = trains_on(folder, content, filter_empty=False)
    assert [len(boxes) for boxes in seen.values()] == [2, 0, 0]


def test_a_category_id_twice_adds_a_class_and_all_its_objects_go_to_the_last(folder):
    content = coco_content()
    append(content, "categories", 0, name="x")
    json_file = write_json(folder / "a.json", content)
    seen = detectron2_trains_on(json_file, str(folder))
    assert seen[1]["instances"].gt_classes.tolist() == [1, 2]
    with catalogs_restored():
        register_datasets([["declared", json_file, str(folder)]])
        with pytest.raises(AssertionError, match="thing_classes"):
            DatasetCatalog.get("declared")
