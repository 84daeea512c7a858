"""Which files of folders and globs are predicted on."""

import os

import pytest
from PIL import Image

from focal_retina.inference.files import find_files

KINDS = "jpg JPG jpe jfif png webp tiff bmp jp2 j2k avif mpo pbm pnm tga qoi".split()


@pytest.fixture
def folder(tmp_path):
    for kind in KINDS:
        (tmp_path / f"a.{kind}").write_bytes(b"")
    return tmp_path


def test_a_folder_gives_every_kind_of_picture(folder):
    found = find_files([str(folder)])
    assert found.pictures == sorted(f"{folder}/a.{kind}" for kind in KINDS)
    assert found.videos == found.failures == found.left_out == []


@pytest.mark.parametrize("name", ["b.webm", "b.MOV", "b.wmv", "b.mpg"])
def test_a_folder_gives_its_videos(tmp_path, name):
    (tmp_path / name).touch()
    assert find_files([str(tmp_path)]).videos == [f"{tmp_path}/{name}"]


def test_hidden_and_other_files_are_counted_and_folders_are_not(folder):
    for name in (".a.png", "._b.jpg", "readme.md", "Thumbs.db"):
        (folder / name).touch()
    (folder / "folder.jpg").mkdir()
    found = find_files([str(folder)])
    assert len(found.pictures) == len(KINDS)
    (sentence,) = found.left_out
    assert sentence.startswith(f"4 files in {folder} ")


def test_what_is_no_regular_file_is_left_out_of_folders_and_named(folder):
    os.mkfifo(folder / "pipe.png")
    os.symlink("/dev/zero", folder / "zero.bmp")
    os.symlink(folder / "a.png", folder / "link.png")
    found = find_files([str(folder)])
    assert len(found.pictures) == len(KINDS) + 1
    names = [f"{folder}/{name} is no regular file" for name in ("pipe.png", "zero.bmp")]
    assert found.left_out == names


@pytest.mark.parametrize("name", ["pipe.png", "*.png", "missing.png"])
def test_an_input_without_a_regular_file_is_a_failure(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.png")
    found = find_files([str(tmp_path / name)])
    assert found.pictures == [] and len(found.failures) == 1


def test_a_folder_of_folders_is_told_from_one_that_is_missing(tmp_path):
    (tmp_path / "in" / "day_1").mkdir(parents=True)
    has_none, missing = find_files([f"{tmp_path}/in", f"{tmp_path}/im"]).failures
    assert has_none.startswith(f"{tmp_path}/in has no pictures") and "folders in it" in has_none
    assert missing.startswith(f"{tmp_path}/im does not exist")


def test_a_name_with_the_signs_of_a_glob_is_itself(tmp_path):
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert find_files([f"{tmp_path}/a[1].png"]).pictures == [f"{tmp_path}/a[1].png"]


def test_all_kinds_of_the_folder_are_pillow_s():
    Image.init()
    assert {f".{kind.lower()}" for kind in KINDS} <= set(Image.registered_extensions())
