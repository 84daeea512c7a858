"""Training, prediction and the check of datasets read a picture file alike."""

import os
import random
import socket
import struct
import zlib

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from helpers.picture_files import FORMATS, check_finds, encoded, noise, training_reads
from PIL import Image

from focal_retina.data.checks.problems import Problem
from focal_retina.data.pictures import MAX_PIXELS, read_picture
from focal_retina.errors import ImageError

PIXELS = noise(16, 24)
IMAGE = Image.fromarray(PIXELS)
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}
LOSSLESS = {
    "PNG": {},
    "TIFF": {},
    "LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks, behind):
    """Return a PNG with chunks in front of its pixels or behind them."""
    content = encoded(IMAGE, "PNG")
    place = len(content) - 12 if behind else content.index(b"IDAT") - 4
    return content[:place] + b"".join(chunks) + content[place:]


def assert_all_read(path, pixels):
    assert np.array_equal(training_reads(path), pixels)
    assert np.array_equal(read_picture(path), pixels)
    for decode in (False, True):
        found = check_finds(path, decode)
        assert (found.problem, found.size) == (None, pixels.shape[1::-1])


def assert_all_refuse(path, reason, decode=(False, True)):
    for read in (training_reads, read_picture):
        with pytest.raises(ImageError, match=reason) as raised:
            read(path)
        assert str(raised.value).startswith(f"image {path} cannot be read: ")
    for full in decode:
        found = check_finds(path, full)
        assert found.problem is Problem.FILE_UNREADABLE and reason in found.note


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_picture_is_turned_upright_once(tmp_path, kind, orientation):
    options = {"format": kind, **LOSSLESS[kind]}
    path = tmp_path / "a.picture"
    IMAGE.save(path, exif=exif(orientation), **options)
    assert_all_read(path, TURNED[orientation])
    assert check_finds(path).orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_detectron2_turns_it(tmp_path, orientation):
    IMAGE.save(tmp_path / "a.jpg", exif=exif(orientation))
    assert_all_read(tmp_path / "a.jpg", read_image(tmp_path / "a.jpg", "RGB"))


XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>'


@pytest.mark.parametrize("kind, content", [(b"eXIf", exif(6).tobytes()), (b"iTXt", XMP)])
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_turned_wherever_its_orientation_stands(tmp_path, kind, content, behind):
    content = content.removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(png_with(chunk(kind, content), behind=behind))
    assert_all_read(tmp_path / "a.png", TURNED[6])


def broken_exif():
    """Yield blocks of EXIF that parsers stumble over, each in another way."""
    data = exif(1)
    data[271], data[282], data.get_ifd(0x8769)[36867] = "maker", 72.0, "2020:01:01 00:00:00"
    good, chance = data.tobytes(), random.Random(7)
    yield from (b"", b"Exif\0\0", b"Exif\0\0broken", b"Exif\0\0MM\0*", good[:20], good[::-1])
    for _ in range(10):
        made = bytearray(good)
        # Not within the orientation, which would turn the picture.
        for _ in range(3):
            made[chance.choice([*range(6, 16), *range(44, len(made))])] = chance.randrange(256)
        yield bytes(made)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_that_cannot_be_read_counts_as_none(tmp_path, kind):
    path, options = tmp_path / "a.picture", {"lossless": True} if kind == "WEBP" else {}
    IMAGE.save(path, kind, **options)
    expected = read_picture(path)
    for block in broken_exif():
        IMAGE.save(path, kind, exif=block, **options)
        assert_all_read(path, expected)


ODD = {
    "text": (2, b"6\0\0\0"),
    "bytes": (7, b"\6\6\6\6"),
    "float": (11, struct.pack(">f", 6.5)),
    "zero": (3, b"\0\0\0\0"),
    "nine": (3, b"\0\x09\0\0"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_orientation_that_is_none_counts_as_upright(tmp_path, kind):
    number, value = ODD[kind]
    entry = struct.pack(">HHI", 274, number, len(value) if number in (2, 7) else 1) + value
    block = b"MM\0*\0\0\0\x08\0\1" + entry + bytes(4)
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"eXIf", block), behind=False))
    assert_all_read(tmp_path / "a.png", PIXELS)


def damaged(content, chance):
    """Return the content of a file that is cut off, or has other bytes or bits."""
    content, place = bytearray(content), chance.randrange(len(content))
    match chance.randrange(4):
        case 0:
            return bytes(content[:place])
        case 1:
            content[place] ^= 1 << chance.randrange(8)
        case 2:
            content[place] = chance.randrange(256)
        case 3:
            content[place : place + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
    return bytes(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", FORMATS)
def test_training_and_the_check_agree_on_files_that_are_damaged_at_random(tmp_path, format):
    chance, path = random.Random(3), tmp_path / "a.picture"
    good, outcomes = encoded(IMAGE, format, exif=exif(6)), set()
    for _ in range(45):
        path.write_bytes(damaged(good, chance))
        found = check_finds(path, decode=True)
        try:
            height, width = training_reads(path).shape[:2]
            assert (found.problem, found.size) == (None, (width, height))
        except ImageError as error:
            assert str(path) in str(error) and found.note in str(error)
            assert found.problem is Problem.FILE_UNREADABLE
        outcomes.add(found.problem)
    assert Problem.FILE_UNREADABLE in outcomes


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt"])
def test_a_png_with_a_damaged_checksum_is_refused_whichever_chunk_has_it(tmp_path, kind):
    content = bytearray(png_with(chunk(b"tEXt", b"Comment\0a"), behind=True))
    start = content.index(kind)
    (length,) = struct.unpack(">I", content[start - 4 : start])
    content[start + 4 + length] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert_all_refuse(tmp_path / "a.png", "bad header checksum", decode=[True])


def test_a_png_without_pixels_is_refused(tmp_path):
    content = encoded(IMAGE, "PNG")
    start = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:start] + content[-12:])
    assert_all_refuse(tmp_path / "a.png", "it is damaged", decode=[True])


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_cut_off_is_known_without_decoding(tmp_path, format):
    path, content = tmp_path / "a.picture", encoded(IMAGE, format)
    path.write_bytes(content[: len(content) * 3 // 4])
    assert_all_refuse(path, "")


def test_a_small_file_of_very_many_pixels_is_refused(tmp_path):
    content = bytearray(encoded(IMAGE.convert("P"), "GIF"))
    content[6:10] = struct.pack("<HH", 2**15, 2**16 - 1)  # the size of the screen
    (tmp_path / "a.gif").write_bytes(content)
    assert_all_refuse(tmp_path / "a.gif", f"more than {MAX_PIXELS:,} pixels; scale it down")


@pytest.mark.parametrize("size", [(3, 2**21), (2**21, 3)])
def test_a_picture_with_a_side_of_millions_of_pixels_is_refused(tmp_path, size):
    content = bytearray(encoded(IMAGE, "PNG"))
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    assert_all_refuse(tmp_path / "a.png", "it has a side of more than 1,048,576 pixels")


def test_a_picture_of_more_pixels_than_pillow_takes_for_sane_is_used(tmp_path):
    content = bytearray(encoded(IMAGE, "PNG"))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    found = check_finds(tmp_path / "a.png")  # the header alone
    assert (found.problem, found.size) == (None, (20_000, 20_000))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path, make):
    make(tmp_path / "a.png")
    assert_all_refuse(tmp_path / "a.png", "it is ")


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.png")
        assert_all_refuse(tmp_path / "a.png", "it is no regular file")


def image_of(mode):
    if mode == "PA":
        return IMAGE.convert("P").convert("PA")
    return (
        Image.fromarray(noise(16, 24, 4)).convert("RGB" if mode == "LAB" else "RGBA").convert(mode)
    )


MODES = {
    "1-bit PNG": (image_of("1"), "PNG", {}),
    "grey with transparency": (image_of("LA"), "PNG", {}),
    "palette with transparency": (image_of("P"), "PNG", {"transparency": bytes(range(256))}),
    "palette with a transparent entry": (image_of("P"), "GIF", {"transparency": 3}),
    "transparent": (Image.fromarray(noise(16, 24, 4)), "PNG", {}),
    "CMYK JPEG": (image_of("CMYK"), "JPEG", {}),
    "CMYK TIFF": (image_of("CMYK"), "TIFF", {}),
    "YCbCr TIFF": (image_of("YCbCr"), "TIFF", {}),
    "1-bit fax": (image_of("1"), "TIFF", {"compression": "group4"}),
}
OTHERS = [Image.fromarray(noise(16, 24, seed=seed)) for seed in (1, 2)]
MANY = {"save_all": True, "append_images": OTHERS}
MODES |= {f"first of many {f}": (IMAGE, f, MANY) for f in ("GIF", "WEBP", "TIFF", "PNG")}


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("kind", MODES)
def test_pixels_of_every_kind_become_what_detectron2_makes_of_them(tmp_path, kind):
    image, format, options = MODES[kind]
    (tmp_path / "a.picture").write_bytes(encoded(image, format, **options))
    assert_all_read(tmp_path / "a.picture", read_image(tmp_path / "a.picture", "RGB"))


@pytest.mark.parametrize("format, mode", [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", "<i4")])
def test_pixels_of_16_bits_are_scaled_to_8(tmp_path, format, mode):
    grey = PIXELS[:, :, 0]
    values = Image.fromarray((grey.astype(np.int64) * 257 + 100).clip(max=65535).astype(mode))
    (tmp_path / "a.picture").write_bytes(encoded(values, format))
    assert_all_read(tmp_path / "a.picture", np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("value", [np.float32(0.5), np.int32(-1), np.int32(65536)])
def test_numbers_of_unknown_range_are_refused(tmp_path, value):
    Image.fromarray(np.full((16, 24), value)).save(tmp_path / "a.tif")
    assert_all_refuse(tmp_path / "a.tif", "numbers of unknown range")
