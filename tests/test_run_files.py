"""Files and streams of a run that fail cost the run themselves only, and its end names them."""

import os
import shutil
import sys

import pytest
from detectron2.utils.file_io import PathManager
from helpers.mounts import files_limited_to
from helpers.processes import run_python

from focal_retina.run_files import RunFile, spared, tell_missing, watch

LIMIT = 3000


@pytest.fixture
def folder(tmp_path):
    watch(str(tmp_path))
    return tmp_path


def write(path, text):
    with PathManager.open(str(path), "w") as file:
        file.write(text)


def test_a_refused_file_keeps_what_it_held_and_is_named_once_and_at_the_end(folder, caplog):
    write(folder / "notes.yaml", "old")
    with files_limited_to(LIMIT):
        for _ in range(3):
            write(folder / "notes.yaml", "x" * 9000)
    tell_missing()
    assert (folder / "notes.yaml").read_text() == "old"
    assert list(folder.glob(".unfinished*")) == []
    assert [x for x in caplog.messages if "notes.yaml" in x] == [
        f"{folder}/notes.yaml cannot be written (File too large); the run goes on without it",
        "The run has ended; missing or incomplete on the disk: "
        f"{folder}/notes.yaml (File too large)",
    ]


def test_a_file_that_is_written_in_the_end_is_not_missing(folder, caplog):
    with files_limited_to(LIMIT):
        write(folder / "table.json", "x" * 9000)
    write(folder / "table.json", "y" * 9000)
    caplog.clear()
    tell_missing()
    assert (folder / "table.json").read_text() == "y" * 9000
    assert caplog.messages == []


def test_a_growing_file_goes_on_with_what_the_full_disk_refused(folder, caplog):
    file = PathManager.open(str(folder / "lines.txt"), "a")
    lines = [f"{i:>60}\n" for i in range(80)]
    with files_limited_to(LIMIT):
        for line in lines:
            file.write(line)
            file.flush()
    assert len(caplog.messages) == 1
    file.close()
    assert (folder / "lines.txt").read_text() == "".join(lines)
    tell_missing()
    assert len(caplog.messages) == 1


def test_a_folder_that_is_removed_is_told_at_the_end(folder, caplog):
    write(folder / "seen.txt", "x")
    shutil.rmtree(folder)
    write(folder / "later.txt", "x")
    tell_missing()
    assert f"{folder}/later.txt (No such file or directory)" in caplog.messages[-1]
    assert f"{folder}/seen.txt (removed)" in caplog.messages[-1]


def test_a_folder_that_cannot_be_made_ends_nothing(folder, caplog):
    (folder / "file").write_text("")
    PathManager.mkdirs(str(folder / "file/inside"))
    write(folder / "file/inside/a.json", "x")
    tell_missing()
    assert f"{folder}/file/inside/a.json" in caplog.messages[-1]


def test_files_elsewhere_raise_as_ever(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError):
        write(tmp_path_factory.mktemp("other") / "none/a.txt", "x")


def test_what_spares_its_own_file_does_not_hide_what_was_noted_within(caplog, tmp_path):
    file = RunFile("metrics", open(tmp_path / "a", "w"))
    with files_limited_to(LIMIT):
        for _ in range(3):
            with spared("metrics", is_whole=False):
                file.write("x" * 9000)
                file.flush()
    assert len(caplog.messages) == 1


PRINTING = """
import sys, time
from detectron2.utils.logger import setup_logger
from focal_retina.run_files import spared_output
with spared_output():
    logger = setup_logger(name="focal_retina")
    for i in range(2000):
        logger.info(f"line {i}")
        print("printed", i)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("end", ["| head -n 3", "> /dev/full", ">&-"])
def test_output_that_nobody_takes_ends_nothing(tmp_path, end):
    script, done = tmp_path / "script.py", tmp_path / "done"
    script.write_text(PRINTING)
    shell = f"{sys.executable} {script} {done} {end}; exit ${{PIPESTATUS[0]}}"
    call = f"import subprocess, sys; sys.exit(subprocess.run(['bash', '-c', {shell!r}]).returncode)"
    ended = run_python("-c", call)
    assert ended.returncode == 0, ended.stderr
    assert done.exists()
    assert "Traceback" not in ended.stderr


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder, caplog):
    os.mkfifo(folder / "events.txt")
    with PathManager.open(str(folder / "events.txt"), "a") as file:
        file.write("x")
    assert "events.txt cannot be written (it is a pipe" in caplog.text


def test_a_file_that_could_not_be_opened_stays_missing_whatever_is_flushed(folder, caplog):
    (folder / "rows.json").mkdir()
    file = PathManager.open(str(folder / "rows.json"), "a")
    assert file.name == str(folder / "rows.json")
    with spared(file.name, is_whole=False):
        file.write("x")
        file.flush()
    tell_missing()
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith(f"{folder}/rows.json (Is a directory)")
