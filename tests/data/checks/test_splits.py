"""Pictures and classes that two datasets share or should share."""

import shutil

import pytest
from helpers.small_datasets import coco_content, write_dataset, write_json
from PIL import Image

from focal_retina.data.checks.pictures import inspect_pictures
from focal_retina.data.checks.reading import read_table
from focal_retina.data.checks.splits import check_splits


@pytest.fixture
def splits(tmp_path):
    """Two good datasets of the same file names and ids but different pictures."""
    names = ("train", "val")
    return {name: write_dataset(tmp_path / name, seed=i) for i, name in enumerate(names)}


def found(splits):
    tables = [read_table(*files, name) for name, files in splits.items()]
    pictures = [inspect_pictures(table, False, 1) for table in tables]
    findings = check_splits(*tables, *pictures)
    return {finding.problem.label: finding.places for finding in findings}


def test_the_same_file_names_and_image_ids_in_two_folders_are_no_leak(splits):
    assert found(splits) == {}


def test_the_same_file_in_both_sets_is_a_leak(splits):
    splits["val"] = splits["val"][0], splits["train"][1]
    places = found(splits)["leak-same-file"]
    assert [place.image_id for place in places] == [1, 2, 3]
    assert places[0].path == f"{splits['train'][1]}/0.png"
    assert found(splits).keys() == {"leak-same-file"}


def test_a_copy_under_another_name_is_a_leak(splits):
    shutil.copy(f"{splits['train'][1]}/0.png", f"{splits['val'][1]}/2.png")
    (place,) = found(splits)["leak-same-bytes"]
    assert place.path == f"{splits['val'][1]}/2.png"
    assert place.note == f"{splits['train'][1]}/0.png of train"


def test_files_of_equal_size_and_other_bytes_are_no_leak(splits):
    for _, folder in splits.values():
        for path in (f"{folder}/{i}.png" for i in range(3)):
            Image.open(path).convert("RGB").save(path, format="BMP")
    assert found(splits) == {}


def test_two_missing_pictures_are_no_leak(splits):
    for _, folder in splits.values():
        shutil.rmtree(folder)
    assert found(splits) == {}


@pytest.mark.parametrize(
    "ids, names, notes",
    [
        ((1, 2), ("dog", "cat"), ["class 0 is 'cat' in train, 'dog' in val"]),
        ((1, 2), ("cat", "cow"), ["class 1 is 'dog' in train, 'cow' in val"]),
        ((1,), ("cat",), ["2 in train, 1 in val"]),
        ((20, 3), ("dog", "cat"), []),  # the same in the order of their ids
    ],
)
def test_classes_that_differ_are_an_error(splits, ids, names, notes):
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    write_json(splits["val"][0], {**coco_content(), "categories": categories})
    assert [place.note for place in found(splits).get("classes-differ", [])] == notes
