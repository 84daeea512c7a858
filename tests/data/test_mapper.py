"""Images that cannot be used are named, also by the workers of a data loader."""

import numpy as np
import pytest
from detectron2.data import DatasetMapper, build_detection_test_loader

from focal_retina.data.mapper import NamingMapper
from focal_retina.errors import ImageError


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_error_is_one_line_that_names_the_image_whatever_the_process(tmp_path, num_workers):
    record = {"file_name": str(tmp_path / "gone.jpg"), "height": 8, "width": 8, "image_id": 1}
    mapper = NamingMapper(DatasetMapper(is_train=False, augmentations=[], image_format="BGR"))
    loader = build_detection_test_loader([record], mapper=mapper, num_workers=num_workers)
    with pytest.raises(ImageError) as raised:
        list(loader)
    assert str(raised.value).startswith(f"image {record['file_name']} cannot be read: ")
    assert "\n" not in str(raised.value)


def test_another_mapper_may_take_files_that_are_no_pictures(tmp_path):
    file_name = str(tmp_path / "a.npy")
    np.save(file_name, np.zeros(3))
    mapper = NamingMapper(lambda record: np.load(record["file_name"]))
    assert mapper({"file_name": file_name}).shape == (3,)


@pytest.mark.parametrize("kind", [KeyError, ValueError])
def test_a_mistake_in_a_users_mapper_keeps_its_own_error(kind):
    def mapper(record):
        raise kind("nonesuch")

    with pytest.raises(kind, match="nonesuch") as raised:
        NamingMapper(mapper)({"file_name": "a.png"})
    assert raised.type is kind
