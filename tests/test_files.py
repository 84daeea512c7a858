"""Every file that is written is whole, or the old one stays."""

import os

import pytest
from helpers.mounts import files_limited_to
from helpers.processes_gone import gone_process

from focal_retina.errors import UserError
from focal_retina.files import output, replacing, unfinished_files, write_atomically


def test_a_file_is_replaced(tmp_path):
    write_atomically(tmp_path / "file", b"old")
    write_atomically(tmp_path / "file", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"new")]


def test_the_name_may_be_as_long_as_the_disk_allows(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


def test_what_a_full_disk_refuses_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "file", b"old")
    with files_limited_to(1000), pytest.raises(OSError):
        write_atomically(tmp_path / "file", bytes(1001))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_any_failure_of_the_writer_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "file.onnx", b"old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file.onnx") as unfinished:
        assert unfinished.endswith(".onnx")
        write_atomically(unfinished, b"half")
        raise KeyboardInterrupt
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file.onnx", b"old")]


def test_an_output_that_cannot_be_written_is_a_mistake_of_the_user(tmp_path):
    path = tmp_path / "missing" / "file"
    with pytest.raises(UserError, match=f"{path} cannot be written: No such file"):
        with output(path) as unfinished:
            write_atomically(unfinished, b"new")


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_an_output_that_is_an_input_is_refused(tmp_path, link):
    source = target = tmp_path / "source"
    source.write_bytes(b"old")
    if link:
        target = tmp_path / "target"
        link(source, target)
    with pytest.raises(UserError, match=f"{target} is read here"), output(target, [source]):
        pass
    assert source.read_bytes() == b"old"


def test_only_what_ended_processes_left_counts_as_unfinished(tmp_path):
    left = tmp_path / f".unfinished-{gone_process()}-0.pth"
    for path in (left, tmp_path / f".unfinished-{os.getpid()}-0.pth", tmp_path / ".unfinished-"):
        path.write_bytes(b"half")
    assert [*unfinished_files(tmp_path)] == [left]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_nothing_but_a_file_counts_as_unfinished(tmp_path, make):
    make(tmp_path / f".unfinished-{gone_process()}-0.pth")
    assert [*unfinished_files(tmp_path)] == []
