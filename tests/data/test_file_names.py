"""A file name that misses a file by little leads to the sentence that names the file."""

import unicodedata

import pytest
from helpers import small_datasets as small
from helpers.picture_files import training_reads

from focal_retina.data.checks.pictures import inspect_pictures
from focal_retina.data.checks.reading import read_table
from focal_retina.data.coco import register_coco
from focal_retina.data.file_names import file_meant
from focal_retina.errors import ImageError, UserError

ACCENTS = "Zoë à l'été.jpg"
NEAR = {
    "backslashes": ("day\\5.JPG", "day/5.JPG"),
    "escapes": ("day/my%20cat%2B.png", "day/my cat+.png"),
    "escapes on the disk": ("my dog.png", "my%20dog.png"),
    "a folder twice": ("day/day/5.JPG", "day/5.JPG"),
    "two folders twice": ("a/b/a/b/5.jpg", "a/b/5.jpg"),
    "case": ("Day/5.jpg", "day/5.JPG"),
    "composed": (unicodedata.normalize("NFC", ACCENTS), unicodedata.normalize("NFD", ACCENTS)),
    "decomposed": (unicodedata.normalize("NFD", ACCENTS), unicodedata.normalize("NFC", ACCENTS)),
    "much of it": ("Day\\day\\my%20CAT.png", "day/my cat.png"),
}


@pytest.mark.parametrize("kind", NEAR)
def test_the_file_that_is_meant_is_named(tmp_path, kind):
    wrong, right = NEAR[kind]
    (tmp_path / right).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / right).touch()
    assert file_meant(tmp_path / wrong if "\\" not in wrong else f"{tmp_path}/{wrong}").startswith(
        f"; there is {tmp_path / right}"
    )


def test_the_sentence_tells_names_apart_that_look_the_same(tmp_path):
    wrong, right = NEAR["composed"]
    (tmp_path / right).touch()
    assert "accents are composed of other characters" in file_meant(tmp_path / wrong)


def test_nothing_is_named_where_nothing_is_near(tmp_path):
    (tmp_path / "a.png").touch()
    for wrong in ("b.png", "a.jpg", "folder/a.png", "", "a.png/a.png", "a\0.png"):
        assert file_meant(f"{tmp_path}/{wrong}") == ""


def test_a_relative_name_leads_to_a_relative_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A.png").touch()
    assert file_meant("a.PNG") == "; there is A.png"


def test_training_the_check_and_the_registration_say_it(tmp_path):
    content = small.changed("images", 0, file_name="0.PNG")
    json_file, folder = small.write_dataset(tmp_path, content)
    expected = f"there is {folder}/0.png"
    first, *others = inspect_pictures(read_table(json_file, folder), False, 1)
    assert first.note == expected
    assert [picture.note for picture in others] == ["", ""]
    with pytest.raises(ImageError, match=f"it does not exist; {expected}"):
        training_reads(f"{folder}/0.PNG")
    with pytest.raises(UserError, match=f"does not exist; {expected}"):
        register_coco("nearly", json_file, folder, boxes_only=True)


def test_a_folder_is_listed_once_for_all_the_files_that_it_lacks(tmp_path, monkeypatch):
    from focal_retina.data import file_names

    listed = []
    original = file_names.os.listdir
    monkeypatch.setattr(
        file_names.os, "listdir", lambda path: listed.append(path) or original(path)
    )
    images = [
        {**small.coco_content()["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(9)
    ]
    json_file, folder = small.write_dataset(tmp_path, {**small.coco_content(), "images": images})
    inspect_pictures(read_table(json_file, folder), False, 1)
    assert listed == [folder]


def test_a_name_of_a_thousand_folders_is_looked_for_at_once():
    looked_for = []
    assert file_meant("a/" * 1000 + "b.jpg", lambda folder: looked_for.append(folder) or {}) == ""
    assert len(looked_for) == 1
