"""A result that is damaged is named, and one that is whole is read."""

import json

import pytest

from experiments.paper.results import read_result, write_result
from experiments.paper.rows import load_rows
from experiments.paper_tables import main
from focal_retina.errors import UserError

ROW = load_rows()[3].id
WHOLE = {
    "row": ROW,
    "seed": 1,
    "status": "done",
    "commit": "abc",
    "machine": {"CPU": "some"},
    "metrics": {"AP": 31.5, "APl": None},
}
DAMAGED = {
    "cut off": json.dumps(WHOLE)[:-9],
    "empty": "",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": "[" * 100_000,
    "a list": "[]",
    "no row": json.dumps({k: x for k, x in WHOLE.items() if k != "row"}),
    "no seed": json.dumps(WHOLE | {"seed": None}),
    "metrics of text": json.dumps(WHOLE | {"metrics": {"AP": "high"}}),
    "metrics in a list": json.dumps(WHOLE | {"metrics": [1]}),
    "machine of numbers": json.dumps(WHOLE | {"machine": {"CPU": 3}}),
    "reason": json.dumps(WHOLE | {"reason": 3}),
}


def test_a_whole_result_is_read_as_it_was_written(tmp_path):
    assert read_result(tmp_path) is None
    write_result(tmp_path, WHOLE)
    assert read_result(tmp_path) == WHOLE


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_result_is_named(content, tmp_path, capsys):
    folder = tmp_path / ROW / "seed1"
    folder.mkdir(parents=True)
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result\.json is damaged"):
        read_result(folder)
    for command in ("list", "report"):
        assert main([command, "--output", str(tmp_path)]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert f"{folder}/result.json is damaged" in sentence
