"""What the machine must have for a run: a device, a folder to write to, Detectron2's datasets."""

import fcntl
import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from typing import TextIO

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from focal_retina.errors import SharedError, UserError, did_you_mean
from focal_retina.run_files import spared

logger = logging.getLogger(__name__)


def usable_device(key: str, device: str) -> str:
    """Return ``device``; where that is CUDA and there is none, log a line and return "cpu".

    Raises:
        UserError: PyTorch has no such device.
    """
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UserError(
            f"{key} is {device!r}, which PyTorch does not know; set it to cpu or cuda"
        ) from error
    if not device.startswith("cuda") or torch.cuda.is_available():
        return device
    logger.info(f"{key} becomes cpu: this machine has no CUDA device")
    return "cpu"


def check_datasets(names: Sequence[str], register_key: str) -> None:
    """Raise a UserError at a dataset that is not registered, or one of Detectron2's not there."""
    for name in names:
        if name not in DatasetCatalog:
            suggestion = did_you_mean(name, DatasetCatalog.list())
            raise UserError(
                f"dataset {name} is not registered{suggestion} ({register_key} declares your own)"
            )
        json_file = MetadataCatalog.get(name).get("json_file")
        # Others may write theirs when first loaded.
        is_detectron2s = DatasetCatalog[name].__module__.startswith("detectron2.")
        if is_detectron2s and json_file and not PathManager.isfile(json_file):
            raise UserError(
                f"dataset {name}: {json_file} does not exist; the environment variable "
                "DETECTRON2_DATASETS names the folder of Detectron2's datasets, "
                f"now {os.environ.get('DETECTRON2_DATASETS', 'datasets')!r}"
            )


def check_writable(key: str, folder: str) -> None:
    """Raise a SharedError, in all processes, if the main one cannot write into the folder."""
    reason = why_not_writable(folder) if comm.is_main_process() else None
    if reason := comm.all_gather(reason)[0]:
        raise SharedError(f"{key} {folder} cannot be written: {reason}; name another folder")


def lock_folder(key: str, folder: str) -> TextIO | None:
    """Lock a folder until the file that this returns is closed, or this process ends.

    Raises:
        SharedError: in all processes, if another run has locked it.
    """
    file, owner = None, None
    if folder and comm.is_main_process():
        file = open(os.path.join(folder, ".lock"), "a+")  # noqa: SIM115  it stays open
        owner = _lock(file)
    if owner := comm.all_gather(owner)[0]:
        raise SharedError(
            f"{key} {folder} is in use by {owner}: wait for its end, or name another folder"
        )
    return file


def _lock(file: TextIO) -> str | None:
    """Lock a file and write this process into it, or return what the one that has it wrote."""
    try:
        # Not flock, whose locks data workers would inherit.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        return file.read() or "another run"
    except OSError as error:
        logger.warning(f"{file.name} cannot be locked ({error.strerror}): start no other run there")
        return None
    with spared(file.name):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    return None


def why_not_writable(folder: str) -> str | None:
    """Make a folder and write into it; return what the system says against it, None if nothing."""
    if not folder:
        return None
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror
    return None
