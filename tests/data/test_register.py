"""Datasets declared in a config: registered, agreed with, or refused in one sentence."""

import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from helpers.small_datasets import changed, coco_content, write_dataset

from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.errors import UserError


def register(folder, *classes, name="mine"):
    categories = [{"id": i, "name": label} for i, label in enumerate(classes, 1)]
    content = {**coco_content(), "categories": categories, "annotations": []}
    register_datasets([[name, *write_dataset(folder, content)]])


def test_class_names_come_in_the_order_of_their_ids(tmp_path):
    content = coco_content() | {"categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}]}
    register_datasets([["mine", *write_dataset(tmp_path, content)]])
    assert MetadataCatalog.get("mine").thing_classes == ["dog", "cat"]
    records = DatasetCatalog.get("mine")
    assert [[a["category_id"] for a in record["annotations"]] for record in records] == [[0, 1]] * 3


def test_the_same_dataset_again_does_no_harm(tmp_path):
    for _ in range(2):
        register_datasets([["mine", *write_dataset(tmp_path)]] * 2)
    assert len(DatasetCatalog.get("mine")) == 3


def test_another_dataset_of_the_same_name_is_an_error(tmp_path):
    entries = [["mine", *write_dataset(tmp_path / x)] for x in "xy"]
    with pytest.raises(UserError, match="mine.*y/a.json.*already registered.*x/a.json"):
        register_datasets(entries)


@pytest.mark.parametrize("entry", ["mine", ["mine"], ["mine", "a.json"], ["mine", 1, "images"]])
def test_a_malformed_entry_is_shown_with_the_right_forms(entry):
    with pytest.raises(UserError, match=r"\[name, COCO json, image folder\].*mine"):
        register_datasets([entry])


@pytest.mark.parametrize(
    "content, complaint",
    [
        ({"categories": []}, r"a.json is not COCO json: categories is \[\]"),
        ({"images": []}, r"a.json is not COCO json: images is \[\]"),
        ({"categories": [{"id": 7, "name": "cat"}]}, "category 9, which its categories lack"),
        (
            changed("annotations", 1, category_id="9"),
            r"category '9', which its categories lack \(9 is there: a text is .* --json",
        ),
        ({"categories": [{"id": 7}]}, r"categories\[0\].name: missing"),
        ({"images": [{"file_name": "b.png"}]}, r"images\[0\].id .image b.png.: missing"),
        (changed("images", 0, file_name="b.png"), "images/b.png, which .*a.json names"),
    ],
)
def test_a_json_that_does_not_hold_together_is_an_error(tmp_path, content, complaint):
    dataset = write_dataset(tmp_path, coco_content() | content)
    with pytest.raises(UserError, match=f"dataset mine: .*{complaint}"):
        register_datasets([["mine", *dataset]])


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_what_is_not_coco_json_is_an_error(tmp_path, text):
    dataset = write_dataset(tmp_path)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="dataset mine: .*a.json is not COCO json"):
        register_datasets([["mine", *dataset]])


def test_a_missing_json_and_a_wrong_image_folder_are_named(tmp_path):
    json_file, images = write_dataset(tmp_path)
    with pytest.raises(UserError, match="COCO json .*no.json does not exist"):
        register_datasets([["mine", str(tmp_path / "no.json"), images]])
    with pytest.raises(UserError, match="none/0.png, which .*a.json names, does not exist"):
        register_datasets([["mine", json_file, str(tmp_path / "none")]])


@pytest.mark.parametrize("num_classes", [1, 3, 1203])
def test_the_default_number_of_classes_gives_way_to_the_datasets(tmp_path, num_classes, caplog):
    register(tmp_path, *(f"c{i}" for i in range(num_classes)))
    with caplog.at_level(logging.INFO):
        assert agree_on_classes("K", 80, ["mine"]) == num_classes
    expected = f"K becomes {num_classes}: mine ({tmp_path}/a.json) has {num_classes} class"
    assert expected in caplog.text


def test_a_number_of_classes_that_agrees_stays_without_a_word(tmp_path, caplog):
    register(tmp_path, "cat", "dog")
    assert agree_on_classes("K", 2, ["mine"]) == 2
    assert agree_on_classes("K", 80, ["coco_2017_val"]) == 80
    assert caplog.text == ""


def test_a_contradiction_names_the_key_and_the_json(tmp_path):
    register(tmp_path, "cat", "dog")
    with pytest.raises(UserError, match=r"NUM_CLASSES is 5, but mine .*a.json\) has 2 .*cat, dog"):
        agree_on_classes("NUM_CLASSES", 5, ["mine"])


def test_datasets_of_different_classes_are_both_named(tmp_path):
    register(tmp_path / "x", "cat", name="one")
    register(tmp_path / "y", "dog", name="two")
    with pytest.raises(UserError, match="one .*1 class .cat. and two .*1 class .dog."):
        agree_on_classes("K", 80, ["one", "two"])


def test_datasets_that_state_no_classes_leave_the_number_alone(tmp_path):
    assert agree_on_classes("K", 7, ["silent"]) == 7
    assert agree_on_classes("K", 7, []) == 7
    register(tmp_path, "cat")
    assert class_names(["silent"]) is None
    assert class_names(["silent", "mine"]) == ["cat"]


@pytest.mark.parametrize(
    "encoding, name",
    [
        ("utf-8-sig", "UTF-8 with a byte order mark"),
        ("utf-16", "UTF-16"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
    ],
)
def test_a_json_of_another_encoding_is_told_to_be_saved_as_utf_8(tmp_path, encoding, name):
    dataset = write_dataset(tmp_path)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=f"it is {name}; save it as UTF-8"):
        register_datasets([["mine", *dataset]])
    (tmp_path / "a.json").write_bytes(text.replace("cat", "c\xe4t").encode("latin1"))
    with pytest.raises(UserError, match=r"byte \d+ is not UTF-8"):
        register_datasets([["mine", *dataset]])


def odd_content():
    """Return a content with ids out of order, whole and broken boxes, and odd annotations."""
    content = coco_content() | {"categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}]}
    content["images"].reverse()
    content["annotations"][0] |= {"bbox": [1, 2, 30, 40], "iscrowd": 1}
    content["annotations"][1] |= {"bbox": [1, 2.5, 30, 40], "iscrowd": True}
    content["annotations"][2]["image_id"] = 99
    del content["annotations"][3]["iscrowd"]
    return content


def test_records_of_boxes_are_those_of_detectron2(tmp_path):
    dataset = write_dataset(tmp_path, odd_content())
    register_datasets([["mine", *dataset]])
    records = DatasetCatalog.get("mine")
    expected = load_coco_json(*dataset, "theirs", ["id"])
    assert records == expected
    boxes = [
        [x["bbox"] for record in y for x in record["annotations"]] for y in (records, expected)
    ]
    types = [[[type(v) for v in box] for box in z if box == [1, 2, 30, 40]] for z in boxes]
    assert types[0] == types[1] == [[int] * 4]
    metadata = MetadataCatalog.get("mine"), MetadataCatalog.get("theirs")
    assert len({str(x.thing_dataset_id_to_contiguous_id) for x in metadata}) == 1


def test_boxes_stay_whatever_a_segmentation_is_unless_masks_are_used(tmp_path):
    content = changed("annotations", 3, segmentation=[[4, 5, 20, 30]], keypoints="none")
    dataset = write_dataset(tmp_path, content)
    register_datasets([["mine", *dataset]])
    assert sum(len(x["annotations"]) for x in DatasetCatalog.get("mine")) == 6
    with pytest.raises(UserError, match=r"annotations\[3\].keypoints"):
        register_datasets([["masks", *dataset]], boxes_only=False)


def test_masks_are_loaded_for_a_model_that_uses_them(tmp_path):
    polygon = [[4, 5, 20, 30, 7, 7]]
    dataset = write_dataset(tmp_path, changed("annotations", 3, segmentation=polygon))
    register_datasets([["mine", *dataset]])
    register_datasets([["mine", *dataset]], boxes_only=False)
    annotations = [x for record in DatasetCatalog.get("mine") for x in record["annotations"]]
    assert annotations[3]["segmentation"] == polygon
