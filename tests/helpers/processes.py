"""Programs and functions in real processes."""

import os
import subprocess
import sys

from detectron2.engine import launch
from helpers.tiny_jobs import ROOT

from focal_retina.distributed import leave


def run_python(*arguments, folder=ROOT, **environ):
    """Run a Python program to its end; return its output and status."""
    # One thread: the processes of a test share few cores.
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environ}
    options = {"cwd": folder, "env": environ, "timeout": 300, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *map(str, arguments)], **options)


def run_processes(number, function, *args):
    """Call ``function(*args)`` in as many processes, as Detectron2 starts them."""
    launch(_run_and_leave, number, dist_url="auto", args=(function, args))


def _run_and_leave(function, args):
    function(*args)
    leave()
