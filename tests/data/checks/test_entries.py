"""Every mistake that a json can have is found at its place, and is what Detectron2 makes of it."""

from pathlib import Path

import pytest
import yaml
from helpers import small_datasets as small

from focal_retina.data.checks.entries import check_entries, count_drops
from focal_retina.data.checks.reading import table_of

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
HUGE = ("malformed", "bbox", [1, 2, 3, 10**400])


def found_in(content):
    """Return, by the name of the problem, where it is: paths, annotation ids, file names."""
    return {
        finding.problem.label: [(x.path, x.annotation_id, x.file_name) for x in finding.places]
        for finding in check_entries(table_of(content))
    }


def test_a_good_dataset_has_no_finding():
    assert found_in(small.coco_content()) == {}


@pytest.mark.parametrize("problem, key, value", [*TABLES["annotations"], HUGE])
def test_a_mistake_in_an_annotation_is_found_where_it_is(problem, key, value):
    annotation_id = 13 if key != "id" else None if value == small.MISSING else value
    expected = (f"annotations[3].{key}", annotation_id, None if key == "image_id" else "1.png")
    assert found_in(small.changed("annotations", 3, **{key: value}))[problem] == [expected]


@pytest.mark.parametrize("problem, change, kind, number, values, expected", TABLES["others"])
def test_another_mistake_is_found_where_it_is(problem, change, kind, number, values, expected):
    content = getattr(small, change)(kind, number, **values)
    assert found_in(content)[problem] == [tuple(expected)]


@pytest.mark.parametrize("problem, kind, number, key, fine, wrong", TABLES["limits"])
def test_limits_hold_at_their_exact_value(problem, kind, number, key, fine, wrong):
    assert problem not in found_in(small.changed(kind, number, **{key: fine}))
    assert problem in found_in(small.changed(kind, number, **{key: wrong}))


def places_of(label, content, **options):
    """Return the places of one problem, as text."""
    findings = check_entries(table_of(content), **options)
    return [str(x) for f in findings if f.problem.label == label for x in f.places]


@pytest.mark.parametrize(
    "values, why",
    [
        ({"image_id": 77}, "6 of unknown images"),
        ({"iscrowd": 1}, "6 crowds"),
        ({"segmentation": [[1, 2, 3, 4]]}, "6 without a valid polygon"),
        ({"bbox": [70, 5, 9, 9]}, "6 with boxes of no area inside the image"),
    ],
)
def test_annotations_of_which_none_is_left_are_an_error_that_says_why(values, why):
    content = small.coco_content()
    for annotation in content["annotations"]:
        annotation.update(values)
    (place,) = places_of("no-object-left", content)
    assert place == f"annotations: none of 6 is left: {why}"
    content["annotations"][0] = small.coco_content()["annotations"][0]
    assert places_of("no-object-left", content) == []
    assert places_of("no-object-left", content | {"annotations": []}) == []


def scaled(boxes, number=6):
    """Return boxes of a small dataset as fractions of their image; the others stay."""
    content = small.coco_content()
    for annotation in content["annotations"][:number]:
        x, y, w, h = annotation["bbox"]
        sizes = small.WIDTH, small.HEIGHT
        x, w = x / sizes[0], w / sizes[0]
        y, h = y / sizes[1], h / sizes[1]
        centre = [x + w / 2, y + h / 2, w, h]
        annotation["bbox"] = [x, y, w, h] if boxes == "corners" else centre
    return content


@pytest.mark.parametrize("number", [6, 1])
@pytest.mark.parametrize("boxes", ["corners", "centres"])
def test_boxes_relative_to_the_image_are_an_error(boxes, number):
    assert len(places_of("box-normalized", scaled(boxes, number))) == number


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0.5, 0, 1, 2.5], [1, 1, 1, 1], [30, 20, 0.5, 0.5]])
def test_a_speck_is_no_box_relative_to_the_image(box):
    assert places_of("box-normalized", small.changed("annotations", 3, bbox=box)) == []


def test_boxes_of_the_whole_relative_image_are_an_error():
    content = small.coco_content()
    for annotation in content["annotations"]:
        annotation["bbox"] = [0, 0, 1, 1]
    assert len(places_of("box-normalized", content)) == 6


@pytest.mark.parametrize(
    "resize, tiny",
    [
        ((48, 99), []),
        ((24, 99), ["0.50 x 5.00"]),
        ((48, 40), ["0.62 x 6.25"]),
        ((0, 99), []),
        (None, []),
    ],
)
def test_objects_below_a_pixel_at_the_size_of_training_are_warned_of(resize, tiny):
    content = small.changed("annotations", 3, bbox=[9, 9, 1, 10], area=10)
    found = places_of("box-tiny", content, resize=resize)
    assert [place.partition(": ")[2] for place in found] == [f"{x} pixels there" for x in tiny]
    assert all("annotations[3].bbox" in place for place in found)


@pytest.mark.parametrize(
    "problem, content, note",
    [
        (
            "category-unknown",
            small.changed("annotations", 3, category_id="9"),
            "is '9': 9 is there: a text is no number",
        ),
        (
            "image-unknown",
            small.changed("annotations", 3, image_id="2"),
            "is '2': 2 is there: a text is no number",
        ),
    ],
)
def test_an_id_of_the_other_type_is_told(problem, content, note):
    (place,) = places_of(problem, content)
    assert place.endswith(note)


def test_a_box_detector_leaves_segmentations_and_keypoints_alone():
    content = small.coco_content()
    odd = [[[1, 2, 3, 4]], [3], "mask", {"counts": [-1], "size": ["a"]}, {"counts": 3}]
    for annotation, segmentation in zip(content["annotations"], odd, strict=False):
        annotation |= {"segmentation": segmentation, "keypoints": "1 2 2"}
    table = table_of(content, boxes_only=True)
    assert [str(x) for x in check_entries(table)] == []
    assert count_drops(table, True).used == 6


def test_class_names_that_are_numbers_are_texts_where_detectron2_does_not_read_them():
    content = small.coco_content()
    content["categories"][0]["name"], content["categories"][1]["name"] = 0, 7.5
    assert table_of(content, boxes_only=True).categories.names == ["0", "7.5"]
    assert table_of(content, boxes_only=True).malformed == []
    assert len(table_of(content).malformed) == 2
