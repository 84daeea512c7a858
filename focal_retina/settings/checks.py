"""Checks before anything is built: names, datasets, device, weights."""

import difflib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from focal_retina.errors import SharedError

logger = logging.getLogger(__name__)


def check_name(key: str, name: str, known: Sequence[str]) -> None:
    """Raise a ValueError that suggests the closest known name, unless ``name`` is known."""
    if name not in known:
        remedy = did_you_mean(name, known) or (
            "; if it is a part of yours, import the module that registers it first, for instance "
            "in a copy of train_net.py"
        )
        raise ValueError(f"{key}: nothing is registered as {name!r}{remedy}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error's sentence: the known name closest to ``name``, if any is."""
    # A key in the wrong place is a likelier mistake than one misspelt, and ours are RetinaNets.
    close = sorted((k for k in known if k.endswith(f".{name}")), key=lambda k: "RETINA" not in k)
    close = close or difflib.get_close_matches(name, known)
    return f"; did you mean {close[0]}?" if close else ""


def check_datasets(names: Sequence[str], register_key: str) -> None:
    """Raise a ValueError at a dataset that is not registered, or one of Detectron2's not there.

    Before training, since the datasets to test on are opened only after it.
    """
    for name in names:
        if name not in DatasetCatalog:
            suggestion = did_you_mean(name, DatasetCatalog.list())
            raise ValueError(
                f"dataset {name} is not registered{suggestion} ({register_key} declares your own)"
            )
        json_file = MetadataCatalog.get(name).get("json_file")
        # Others may write theirs when first loaded.
        is_detectron2s = DatasetCatalog[name].__module__.startswith("detectron2.")
        if is_detectron2s and json_file and not PathManager.isfile(json_file):
            raise ValueError(
                f"dataset {name}: {json_file} does not exist; the environment variable "
                "DETECTRON2_DATASETS names the folder of Detectron2's datasets, "
                f"now {os.environ.get('DETECTRON2_DATASETS', 'datasets')!r}"
            )


def usable_device(key: str, device: str) -> str:
    """Return ``device``; where that is CUDA and there is none, log a line and return "cpu".

    Raises:
        ValueError: PyTorch has no such device.
    """
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"{key} is {device!r}, which PyTorch does not know; set it to cpu or cuda"
        ) from error
    if not device.startswith("cuda") or torch.cuda.is_available():
        return device
    logger.info(f"{key} becomes cpu: this machine has no CUDA device")
    return "cpu"


def check_writable(key: str, folder: str) -> None:
    """Raise a SharedError, in all processes, if the main one cannot write into the output folder.

    At the start, and not after the first hours of training.
    """
    reason = why_not_writable(folder) if comm.is_main_process() else None
    if reason := comm.all_gather(reason)[0]:
        raise SharedError(f"{key} {folder} cannot be written: {reason}; name another folder")


def why_not_writable(folder: str) -> str | None:
    """Make a folder and write into it; return what the system says against it, None if nothing."""
    if not folder or "://" in folder:
        return None
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror


@contextmanager
def weights_errors(key: str, path: str) -> Iterator[None]:
    """Turn what loading unreadable weights raises into a ValueError that names the key."""
    try:
        yield
    except (AssertionError, OSError, ValueError) as error:
        raise ValueError(f"{key} {path} cannot be loaded: {error}") from error


@contextmanager
def empty_data_errors(names: Sequence[str], filter_key: str) -> Iterator[None]:
    """Turn what Detectron2 raises where it filters all images into a ValueError with the remedy."""
    try:
        yield
    except AssertionError as error:
        if not str(error).startswith("No valid data found"):
            raise
        raise ValueError(
            f"dataset {' and '.join(names)}: no image has an object to learn; if that is on "
            f"purpose, set {filter_key} to False to train on images without objects"
        ) from error
