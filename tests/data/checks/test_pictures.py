"""Picture files that training stops at, or sees differently, are found and named."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image
from helpers import small_datasets as small
from PIL import Image

from focal_retina.data.checks.pictures import check_pictures, inspect_pictures
from focal_retina.data.checks.reading import read_table
from focal_retina.data.mapper import NamingMapper

HEIGHT, WIDTH = UPRIGHT = small.HEIGHT, small.WIDTH
LYING = WIDTH, HEIGHT
rng = np.random.default_rng(0)


def pixels(*shape, dtype=np.uint8, high=256):
    return Image.fromarray(rng.integers(high, size=shape, dtype=dtype))


@pytest.fixture
def dataset(tmp_path):
    """The json of a good dataset, and its folder of pictures."""
    return small.write_dataset(tmp_path)


@pytest.fixture
def second(dataset):
    """The second picture, whose name ends in .png whatever it is."""
    return Path(dataset[1], "1.png")


def found(dataset, decode=False):
    """Return, by label, the places of what is wrong with the pictures."""
    table = read_table(*dataset)
    pictures = inspect_pictures(table, decode, num_threads=2)
    return {finding.problem.label: finding.places for finding in check_pictures(table, pictures)}


def assert_stops_training(dataset, problem, errors, decode=False):
    """Assert that the second picture alone has the problem; return its place."""
    with pytest.raises(errors):
        small.detectron2_trains_on(*dataset)
    ((label, (place,)),) = found(dataset, decode).items()
    assert (label, place.path, place.image_id) == (problem, f"{dataset[1]}/1.png", 2)
    return place


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_off_stops_training(dataset, second, decode, format):
    pixels(*UPRIGHT, 3).save(second, format=format)
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    assert_stops_training(dataset, "file-unreadable", OSError, decode)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_stops_training(dataset, second, content):
    second.write_bytes(content)
    assert_stops_training(dataset, "file-unreadable", (OSError, SyntaxError))


def test_a_missing_picture_stops_training(dataset, second):
    second.unlink()
    assert_stops_training(dataset, "file-missing", FileNotFoundError)


def test_damage_inside_a_png_is_found_by_decoding_it(dataset, second):
    Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(second)
    damaged = bytearray(second.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    second.write_bytes(damaged)
    assert found(dataset, decode=False) == {}
    assert_stops_training(dataset, "file-unreadable", OSError, decode=True)


@pytest.mark.parametrize(
    "shape, orientation, note",
    [
        ((48, 63), 1, "63x48, the json says 64x48"),
        (UPRIGHT, 6, "48x64, the json says 64x48, before EXIF's orientation 6 turns it upright"),
    ],
)
def test_another_size_than_the_json_says_stops_training(dataset, second, shape, orientation, note):
    pixels(*shape, 3).save(second, format="JPEG", exif=exif(orientation))
    assert assert_stops_training(dataset, "size-differs", SizeMismatchError).note == note


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_training_turns_a_picture_as_exif_says(dataset, second, orientation):
    image = pixels(*(LYING if orientation >= 5 else UPRIGHT), 3)
    image.save(second, format="JPEG", exif=exif(orientation))
    (place,) = found(dataset)["exif-rotated"]
    assert place.note == f"orientation {orientation}"
    seen = read_image(second, "RGB")
    assert seen.shape == (*UPRIGHT, 3)
    assert not np.array_equal(seen, np.asarray(Image.open(second)))
    assert len(small.detectron2_trains_on(*dataset)) == 3


@pytest.mark.parametrize("mode, label, note", [("L", "grey", "mode L"), ("CMYK", "cmyk", "")])
def test_grey_and_cmyk_become_rgb_as_pillow_converts_them(dataset, second, mode, label, note):
    pixels(*UPRIGHT, 3).convert(mode).save(second, format="JPEG")
    (place,) = found(dataset)[label]
    assert (place.path, place.note) == (str(second), note)
    assert np.array_equal(read_image(second, "RGB"), np.asarray(Image.open(second).convert("RGB")))


def test_sixteen_bits_are_scaled_where_detectron2_cuts_them_off_at_255(dataset, second):
    values = rng.integers(2**16, size=UPRIGHT, dtype=np.uint16)
    Image.fromarray(values).save(second)
    (place,) = found(dataset)["more-than-8-bits"]
    assert place.path == str(second)
    assert np.array_equal(read_image(second, "BGR")[:, :, 0], values.clip(max=255))
    mapper = NamingMapper(DatasetMapper(is_train=False, augmentations=[], image_format="BGR"))
    assert np.array_equal(mapper({"file_name": str(second)})["image"][0], values // 257)


def test_pictures_of_malformed_entries_are_left_alone(dataset):
    content = small.coco_content()
    del content["images"][1]["width"]
    content["images"][2]["file_name"] = 3
    small.write_json(dataset[0], content)
    assert found(dataset) == {}


def test_a_leaf_of_exif_that_cannot_be_parsed_is_ignored_as_in_training(dataset, second):
    pixels(*UPRIGHT, 3).save(second, format="JPEG", exif=b"Exif\0\0broken")
    assert found(dataset) == {}
    assert len(small.detectron2_trains_on(*dataset)) == 3
