"""What training will not use is counted, exactly as Detectron2 drops it."""

import math

import pytest
from helpers.small_datasets import coco_content, detectron2_trains_on, write_dataset

from focal_retina.data.checks.entries import count_drops
from focal_retina.data.checks.reading import read_table


@pytest.fixture
def dataset(tmp_path):
    """Eight annotations, of which two are usable, the second since its corners are ordered."""
    content = coco_content()
    content["annotations"][1]["bbox"] = [math.nan, 1, 2, 3]
    content["annotations"][2]["bbox"] = [1, 1, 0, 5]
    content["annotations"][4]["segmentation"] = [[1, 2]]
    content["annotations"][3]["iscrowd"] = content["annotations"][5]["iscrowd"] = 1
    others = {"id": 20, "image_id": 99}, {"id": 21, "bbox": [20, 20, -5, -5]}
    content["annotations"] += [{**content["annotations"][0], **values} for values in others]
    return write_dataset(tmp_path, content)


@pytest.mark.parametrize("filter_empty", [True, False])
def test_the_numbers_are_those_of_detectron2(dataset, filter_empty):
    drops = count_drops(read_table(*dataset), filter_empty)
    trained = detectron2_trains_on(*dataset, filter_empty)
    assert len(trained) == drops.images - drops.images_empty
    assert sum(len(x["instances"]) for x in trained.values()) == drops.used == 2


def test_the_reasons_are_told(dataset):
    assert str(count_drops(read_table(*dataset), True)) == (
        "2 of 8 annotations (not 1 of unknown images, 1 without a valid polygon, 2 crowds, "
        "2 with boxes of no area inside the image) and 2 of 3 images (not 1 without objects, as "
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS says)"
    )
    assert str(count_drops(read_table(*dataset), False)).endswith("and 3 of 3 images")
