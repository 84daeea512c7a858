"""What is missing is said before anything is built."""

import logging
import socket
import subprocess
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.processes import run_python

from focal_retina.settings.machine import check_datasets, usable_device


def test_a_dataset_that_writes_its_json_when_loaded_is_fine():
    DatasetCatalog.register("written_later", list)
    MetadataCatalog.get("written_later").json_file = "none.json"
    check_datasets(["written_later"], "DATASETS.REGISTER")


def test_without_cuda_the_device_becomes_the_cpu_with_a_line_in_the_log(caplog):
    expected = {True: ("cuda:0", ""), False: ("cpu", "MODEL.DEVICE becomes cpu")}
    device, line = expected[torch.cuda.is_available()]
    with caplog.at_level(logging.INFO):
        assert usable_device("MODEL.DEVICE", "cuda:0") == device
    assert line in caplog.text
    assert usable_device("MODEL.DEVICE", "cpu") == "cpu"


LOCKING = """
import sys, time
from focal_retina.errors import SharedError
from focal_retina.settings.machine import lock_folder
try:
    lock = lock_folder("OUTPUT_DIR", sys.argv[1])
except SharedError as error:
    sys.exit(str(error))
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def owner(tmp_path):
    """A process that has locked the folder."""
    command = [sys.executable, "-c", LOCKING, tmp_path, "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def test_a_folder_has_one_run_at_a_time_and_is_free_when_that_is_killed(owner, tmp_path):
    refused = run_python("-c", LOCKING, tmp_path, 0)
    sentence = f"OUTPUT_DIR {tmp_path} is in use by process {owner.pid} on {socket.gethostname()}"
    assert refused.returncode == 1 and sentence in refused.stderr
    owner.kill()
    owner.wait()
    assert run_python("-c", LOCKING, tmp_path, 0).returncode == 0
