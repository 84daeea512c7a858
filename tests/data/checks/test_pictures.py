"""Picture files that training stops at, or sees differently, are found and named."""

import numpy as np
import pytest
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image
from helpers.small_datasets import (
    HEIGHT,
    WIDTH,
    coco_content,
    detectron2_trains_on,
    write_json,
    write_pictures,
)
from PIL import Image

from focal_retina.data.checks.pictures import check_pictures, inspect_pictures
from focal_retina.data.checks.problems import Problem
from focal_retina.data.checks.reading import read_table
from focal_retina.data.mapper import NamingMapper
from focal_retina.errors import ImageError

UPRIGHT, LYING = (HEIGHT, WIDTH), (WIDTH, HEIGHT)
rng = np.random.default_rng(0)


def pixels(*shape, dtype=np.uint8, high=256):
    return rng.integers(high, size=shape, dtype=dtype)


@pytest.fixture
def dataset(tmp_path):
    """The json and the folder of a good dataset."""
    json_file = write_json(tmp_path / "a.json", coco_content())
    return json_file, tmp_path / "images", write_pictures(tmp_path / "images")


def found(dataset, decode=False):
    """Return, by rule, the places of what is wrong with the pictures."""
    json_file, folder, *_ = dataset
    table = read_table(json_file, str(folder))
    pictures = inspect_pictures(table, decode, num_threads=2)
    return {finding.problem.label: finding.places for finding in check_pictures(table, pictures)}


def save(dataset, image, **options):
    """Replace the second picture, whose name ends in .png whatever it is."""
    path = dataset[1] / "1.png"
    image.save(path, **options)
    return str(path)


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


@pytest.mark.parametrize("decode", [False, True])
def test_good_pictures_have_no_finding(dataset, decode):
    assert found(dataset, decode) == {}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_off_stops_training(dataset, decode, format):
    path = save(dataset, Image.fromarray(pixels(HEIGHT, WIDTH, 3)), format=format)
    whole = (dataset[1] / "1.png").read_bytes()
    (dataset[1] / "1.png").write_bytes(whole[: len(whole) // 2])
    (place,) = found(dataset, decode)["file-unreadable"]
    assert place.path == path
    assert place.image_id == 2
    with pytest.raises(OSError):
        detectron2_trains_on(dataset[0], dataset[2])


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_stops_training(dataset, content):
    (dataset[1] / "1.png").write_bytes(content)
    (place,) = found(dataset)["file-unreadable"]
    assert place.path == str(dataset[1] / "1.png")
    with pytest.raises((OSError, SyntaxError)):
        detectron2_trains_on(dataset[0], dataset[2])


def test_a_missing_picture_stops_training(dataset):
    (dataset[1] / "1.png").unlink()
    (place,) = found(dataset)["file-missing"]
    assert place.path == str(dataset[1] / "1.png")
    with pytest.raises(FileNotFoundError):
        detectron2_trains_on(dataset[0], dataset[2])


def test_damage_inside_a_png_is_found_by_decoding_it(dataset):
    path = dataset[1] / "1.png"
    Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert found(dataset, decode=False) == {}
    assert list(found(dataset, decode=True)) == ["file-unreadable"]
    with pytest.raises(OSError):
        detectron2_trains_on(dataset[0], dataset[2])


def test_another_size_than_the_json_says_stops_training(dataset):
    save(dataset, Image.fromarray(pixels(HEIGHT, WIDTH - 1, 3)))
    (place,) = found(dataset)["size-differs"]
    assert place.note == f"{WIDTH - 1}x{HEIGHT}, the json says {WIDTH}x{HEIGHT}"
    with pytest.raises(SizeMismatchError):
        detectron2_trains_on(dataset[0], dataset[2])


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_training_turns_a_picture_as_exif_says(dataset, orientation):
    lies = orientation >= 5
    image = Image.fromarray(pixels(*(LYING if lies else UPRIGHT), 3))
    path = save(dataset, image, format="JPEG", exif=exif(orientation))
    (place,) = found(dataset)["exif-rotated"]
    assert place.note == f"orientation {orientation}"
    seen = read_image(path, "RGB")
    assert seen.shape == (*UPRIGHT, 3)
    assert not np.array_equal(seen, read_unturned(path))
    assert len(detectron2_trains_on(dataset[0], dataset[2])) == 3


def read_unturned(path):
    return np.asarray(Image.open(path))


def test_a_json_with_the_size_before_exif_turns_the_picture_stops_training(dataset):
    save(dataset, Image.fromarray(pixels(*UPRIGHT, 3)), format="JPEG", exif=exif(6))
    (place,) = found(dataset)["size-differs"]
    assert place.note.endswith("before EXIF's orientation 6 turns it upright")
    with pytest.raises(SizeMismatchError):
        detectron2_trains_on(dataset[0], dataset[2])


def test_grey_is_repeated_three_times(dataset):
    path = save(dataset, Image.fromarray(pixels(*UPRIGHT)))
    (place,) = found(dataset)["grey"]
    assert (place.path, place.note) == (path, "mode L")
    seen = read_image(path, "BGR")
    assert np.array_equal(seen, np.repeat(seen[:, :, :1], 3, axis=2))


def test_cmyk_becomes_rgb(dataset):
    path = save(dataset, Image.fromarray(pixels(*UPRIGHT, 3)).convert("CMYK"), format="JPEG")
    (place,) = found(dataset)["cmyk"]
    assert place.path == path
    assert read_image(path, "BGR").shape == (*UPRIGHT, 3)


def test_sixteen_bits_which_detectron2_cuts_off_at_255_are_an_error(dataset):
    values = pixels(*UPRIGHT, dtype=np.uint16, high=2**16)
    path = save(dataset, Image.fromarray(values))
    (place,) = found(dataset)["more-than-8-bits"]
    assert place.path == path
    assert np.array_equal(read_image(path, "BGR")[:, :, 0], values.clip(max=255))
    assert Problem.MORE_THAN_8_BITS.is_error
    with pytest.raises(ImageError, match="more than 8 bits"):
        NamingMapper(DatasetMapper(is_train=False, augmentations=[], image_format="BGR"))(
            {"file_name": path}
        )


def test_pictures_of_malformed_entries_are_left_alone(dataset):
    content = coco_content()
    del content["images"][1]["width"]
    content["images"][2]["file_name"] = 3
    write_json(dataset[0], content)
    assert found(dataset) == {}


def test_a_leaf_of_exif_that_cannot_be_parsed_is_ignored_as_in_training(dataset):
    save(dataset, Image.fromarray(pixels(*UPRIGHT, 3)), format="JPEG", exif=b"Exif\0\0broken")
    assert found(dataset) == {}
    assert len(detectron2_trains_on(dataset[0], dataset[2])) == 3
