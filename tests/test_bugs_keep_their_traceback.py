"""A bug of ours ends a command with its traceback and status 1; it is no user's mistake."""

import os

import cv2
import numpy as np
import pytest
from bad_input.running import run_tool
from helpers.processes import run_python
from helpers.tiny_jobs import ROOT, write_random_weights

# Statements that fail, and what Python or PyTorch says of them.
BUGS = {
    "zip": ("list(zip([1], [1, 2], strict=True))", "zip() argument 2 is longer than argument 1"),
    "int": ("int('x')", "invalid literal for int() with base 10: 'x'"),
    "reshape": ("torch.zeros(3).reshape(2)", "shape '[2]' is invalid for input of size 3"),
    "assertion": ("assert [], 'the list has an item'", "AssertionError: the list has an item"),
}
# Where they are planted: functions that every command of a row below calls.
SETTINGS = "focal_retina.settings.rules.Rule.check"
DATA = "focal_retina.data.register._is_registered"
CHECKPOINT = "focal_retina.checkpoint.checkpointer.FocalCheckpointer.load"
BUILDING = "focal_retina.modeling.head.FocalRetinaHead.__init__"
MODELING = "focal_retina.modeling.head.FocalRetinaHead.forward"
TRAINING = "focal_retina.training.loop.TrainingLoop.run_step"
EVALUATION = "focal_retina.evaluation.box_evaluator.BoxEvaluator.__init__"
INFERENCE = "focal_retina.inference.predictor.Predictor.network_input"
COMPARISON = "focal_retina.tools.export.largest_difference"
DRAWING = "focal_retina.tools.predict.draw_detections"
CONVERSION = "focal_retina.tools.convert_checkpoint.convert"

YAML = "--config-file tiny.yaml OUTPUT_DIR out SOLVER.MAX_ITER 1"
LAZY = "--config-file tiny.py train.output_dir=out train.max_iter=1"
WEIGHTS = "--weights weights.pth"
PREDICT = f"--config-file tiny.yaml {WEIGHTS} --output out a.jpg"
EXPORT = f"--config-file tiny.yaml {WEIGHTS} --output model.ts --format torchscript --images a.jpg"
# Tool, arguments, places.
ROWS = (
    ("train_net", YAML, (SETTINGS, DATA, CHECKPOINT, BUILDING, MODELING, TRAINING, EVALUATION)),
    ("train_net", LAZY, (DATA, CHECKPOINT, BUILDING, TRAINING)),
    ("predict", PREDICT, (SETTINGS, DATA, CHECKPOINT, BUILDING, MODELING, INFERENCE, DRAWING)),
    ("export", EXPORT, (INFERENCE, COMPARISON)),
    ("demo", "--output out --train-images 2 --val-images 2", (SETTINGS,)),
    ("convert_checkpoint", "weights.pth converted.pth", (CONVERSION,)),
    *(
        (tool, "", (f"focal_retina.tools.{tool}.parse_arguments",))
        for tool in ("analyze_anchors", "check_dataset", "convert_checkpoint", "demo", "export")
    ),
)
CASES = [
    pytest.param(tool, arguments, place, id=f"{tool} {arguments[14:23]} {place}")
    for tool, arguments, places in ROWS
    for place in places
]


def planted(bug):
    """Return a function of ours that has the bug."""
    module = {"__name__": "focal_retina.planted"}
    exec(f"import torch\ndef function(*args, **kwargs):\n    {BUGS[bug][0]}", module)
    return module["function"]


@pytest.fixture(scope="module")
def jobs(jobs):
    write_random_weights(jobs / "tiny.yaml")
    cv2.imwrite(str(jobs / "a.jpg"), np.zeros((64, 64, 3), np.uint8))
    return jobs


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize(("tool", "arguments", "place"), CASES)
def test_a_bug_keeps_its_traceback(tool, arguments, place, bug, jobs, monkeypatch):
    monkeypatch.chdir(jobs)
    monkeypatch.setattr(place, planted(bug))
    outcome = run_tool(tool, arguments.split())
    assert outcome.status == 1, outcome.said[-2000:]
    assert "Traceback" in outcome.said and BUGS[bug][1] in outcome.said


# What a process does first: plant a bug as above, and then be the program.
PROGRAM = """
import runpy, sys
from pytest import MonkeyPatch
from test_bugs_keep_their_traceback import planted
MonkeyPatch().setattr({place!r}, planted("int"))
sys.argv = {argv!r}
runpy.{runner}({program!r}, run_name="__main__")
"""


TRAIN_NET = ("run_path", f"{ROOT}/train_net.py", YAML, TRAINING)
TOOL = ("run_module", "focal_retina.tools.predict", PREDICT, INFERENCE)


@pytest.mark.slow
@pytest.mark.parametrize(("runner", "program", "arguments", "place"), [TRAIN_NET, TOOL])
def test_a_bug_ends_a_real_process_in_status_1(runner, program, arguments, place, jobs):
    argv = [program, *arguments.split()]
    code = PROGRAM.format(place=place, argv=argv, runner=runner, program=program)
    path = os.pathsep.join([f"{ROOT}/tests", str(ROOT)])
    done = run_python("-c", code, folder=jobs, PYTHONPATH=path)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" in done.stderr and f"ValueError: {BUGS['int'][1]}\n" in done.stderr
