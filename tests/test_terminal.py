"""What reaches a terminal, and streams that take all of it."""

import logging
import os
import subprocess
import sys

import pytest
from helpers.tiny_jobs import ROOT

from focal_retina.errors import UserError, report
from focal_retina.terminal import make_output_safe, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x07\x9b1m", r"\x07\x9b1m"),
        ("right\u202eleft", r"right\u202eleft"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("naïve 猫\n\tnext", "naïve 猫\n\tnext"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text, shown, capsys):
    assert printable(text) == shown
    report(UserError(f"the class {text} is no class"))
    assert not set("\x1b\x07\x9b\u202e") & set(capsys.readouterr().err)


@pytest.fixture
def record_factory():
    yield
    logging.setLogRecordFactory(logging.LogRecord)


def test_a_stream_whose_reader_has_gone_before_it_took_all_ends_nothing(
    record_factory, monkeypatch
):
    reader, writer = os.pipe()
    stream = open(writer, "w")
    stream.write("nobody reads it")
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", stream)
    make_output_safe()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_lines_of_logs_steer_no_terminal_and_keep_the_colours_of_others(caplog, record_factory):
    make_output_safe()
    for name in ("focal_retina.data", "detectron2.data"):
        logging.getLogger(name).warning("\x1b[36mcat \x1b]0;title\x07%s", "\x1b[31mdog")
    ours, others = (record.getMessage() for record in caplog.records)
    assert "\x1b" not in ours and r"\x1b[31mdog" in ours
    assert others == "\x1b[36mcat \\x1b]0;title\\x07\x1b[31mdog"


PROGRAM = """
import sys
from focal_retina.errors import UserError, reports_errors

@reports_errors("tool")
def main(argv=None):
    print("1 \\u2192 2 \\udcff")
    raise UserError("a \\u2192 b")

status = main()
open("done", "w").write(str(status))
"""


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["", "<&- >&- 2>&-"])
def test_no_encoding_and_no_closed_stream_ends_a_tool(shell, tmp_path):
    (tmp_path / "tool.py").write_text(PROGRAM)
    ascii_only = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} tool.py {shell}"
    environment = {**os.environ, **ascii_only}
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True)
    assert (tmp_path / "done").read_text() == "2"
