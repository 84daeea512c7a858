"""Every private name of Detectron2, fvcore, PyTorch and Python that this package leans on.

Other modules use the public names given here. ``tests/test_detectron2_internals.py`` has a test for
each, which fails when another release changes it.
"""

import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import detection_utils
from detectron2.engine import hooks
from detectron2.solver import build
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from fvcore.common.registry import Registry
from iopath.common.file_io import NativePathHandler
from torch import Tensor, nn
from torch.utils.data import Sampler

from focal_retina.errors import UserError

# Layers that behave in another way in training: of any number of dimensions.
BatchNorm = nn.modules.batchnorm._BatchNorm
Dropout = nn.modules.dropout._DropoutNd
# Python's own in Python: it takes no memory for what a file only announces.
PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


def registered_objects(registry: Registry) -> dict:
    """Return the objects of a registry by name; changing it changes the registry."""
    return registry._obj_map


def forget_process_groups() -> None:
    """Let Detectron2 forget the groups of processes that it keeps."""
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()


def hooks_of(trainer) -> list[hooks.HookBase]:
    """Return the hooks of a trainer, in their order."""
    return trainer._hooks


def next_batch(trainer) -> list:
    """Return the next batch of a ``SimpleTrainer``."""
    return next(trainer._data_loader_iter)


def close_batches(trainer) -> None:
    """End the iterator of a ``SimpleTrainer`` if it is a generator; the loader gives a new one."""
    if isinstance(trainer._data_loader_iter_obj, Generator):
        trainer._data_loader_iter_obj.close()
        trainer._data_loader_iter_obj = None


def precise_bn_loader(hook: hooks.PreciseBN):
    """Return the data loader of the hook; None where no layer needs it."""
    return None if hook._disabled else hook._data_loader


def writers_of(hook: hooks.PeriodicWriter) -> list[EventWriter]:
    """Return the writers of the hook."""
    return hook._writers


def num_pending_images(storage: EventStorage) -> int:
    """Return how many pictures of a storage no writer has taken yet."""
    return len(storage._vis_data)


def gradient_norms(gradients: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, (len(gradients),)."""
    return torch.stack(torch._foreach_norm(gradients))


def last_write(writer: JSONWriter | TensorboardXWriter) -> int:
    """Return the last iteration that was written."""
    return writer._last_write


def set_last_write(writer: JSONWriter | TensorboardXWriter, iteration: int) -> None:
    """Let a writer take an iteration for the last that was written."""
    writer._last_write = iteration


def open_file_of(writer: JSONWriter) -> TextIO:
    """Return the file that a writer keeps open."""
    return writer._file_handle


def flush_events(writer: TensorboardXWriter) -> None:
    """Bring what was written to the disk."""
    if "_writer" in vars(writer):
        writer._writer.flush()


def reopen_events(writer: TensorboardXWriter) -> None:
    """Begin a new file with the next event."""
    vars(writer).pop("_writer", None)


def hide_events_from(writer: TensorboardXWriter, iteration: int) -> None:
    """Let TensorBoard hide older events of this iteration and later ones."""
    writer._writer_args["purge_step"] = iteration


@contextmanager
def images_read_by(read: Callable[..., np.ndarray]) -> Iterator[None]:
    """Let Detectron2's mappers in this process call another function than ``read_image``."""
    original = detection_utils.read_image
    detection_utils.read_image = read
    try:
        yield
    finally:
        detection_utils.read_image = original


@contextmanager
def sizes_not_specialised() -> Iterator[None]:
    """Let ``torch.export`` take a size of an example for any size.

    Raises:
        UserError: PyTorch is too old for it.
    """
    settings = torch.fx.experimental._config
    if not hasattr(settings, "backed_size_oblivious"):
        raise UserError(
            f"PyTorch {torch.__version__} cannot export for any image size; install a later one"
        )
    with settings.patch(backed_size_oblivious=True):
        yield


class Unscriptable:
    """A module that ``torch.jit.script`` refuses in one sentence, also as a part of another."""

    def __prepare_scriptable__(self) -> NoReturn:
        raise UserError(
            f"{type(self).__name__} cannot be scripted; trace the model (detectron2.export."
            "TracingAdapter), or write a file of a FocalRetinaNet with python -m "
            "focal_retina.tools.export"
        )


class OpenCheckpointer(DetectionCheckpointer):
    """A ``DetectionCheckpointer`` whose steps have public names."""

    def _load_file(self, filename: str) -> dict:
        return self.load_file(filename)

    def load_file(self, filename: str) -> dict:
        """Return the content of a file."""
        return super()._load_file(filename)

    def _load_model(self, checkpoint: dict):
        return self.load_model(checkpoint)

    def load_model(self, checkpoint: dict):
        """Load ``checkpoint["model"]``; return what does not fit."""
        return super()._load_model(checkpoint)

    def log_misfits(self, incompatible) -> None:
        """Log what :meth:`load_model` returned."""
        self._log_incompatible_keys(incompatible)

    def asks_for_matching(self) -> bool:
        """Return whether the file being loaded was named with ?matching_heuristics=True."""
        return self._parsed_url_during_load.query == "matching_heuristics=True"


@contextmanager
def clipping_of_gradients_that_are_there() -> Iterator[None]:
    """Let optimizers built within clip no parameter without gradient: PyTorch 2.14 stops there."""
    original = build._create_gradient_clipper

    def create(cfg):
        clip = original(cfg)
        return lambda parameter: None if parameter.grad is None else clip(parameter)

    build._create_gradient_clipper = create
    try:
        yield
    finally:
        build._create_gradient_clipper = original


class OpenPathHandler(NativePathHandler):
    """A ``NativePathHandler`` whose steps have public names.

    Registered in Detectron2's ``PathManager`` it takes the place of the one before.
    """

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        return self.open(path, mode, buffering=buffering, **options)

    def open(self, path: str, mode: str, **options: Any) -> Any:
        """Open a file as Python's ``open`` does."""
        return super()._open(path, mode, **options)

    def _mkdirs(self, path: str, **_: Any) -> None:
        self.make_folder(path)

    def make_folder(self, path: str) -> None:
        """Make a folder and those that it is in, where there are none."""
        super()._mkdirs(path)


def sampler_state(sampler: Sampler) -> dict[str, int | Tensor]:
    """Return what a sampler has drawn at its start: seeds, and indices of images.

    Detectron2's samplers keep their seeds in attributes alone.
    """
    return {name: x for name, x in _plain_attributes(sampler).items() if _is_drawn(name, x)}


def sampler_facts(sampler: Sampler) -> dict[str, bool | int | float | Tensor]:
    """Return what else its order depends on, but for the rank of its process."""
    return {name: x for name, x in _plain_attributes(sampler).items() if not _is_drawn(name, x)}


def _plain_attributes(sampler: Sampler) -> dict[str, Any]:
    facts = {name: x for name, x in vars(sampler).items() if name not in ("_rank", "_world_size")}
    return {name: x for name, x in facts.items() if isinstance(x, bool | int | float | Tensor)}


def _is_drawn(name: str, value: bool | int | float | Tensor) -> bool:
    return not value.is_floating_point() if isinstance(value, Tensor) else "seed" in name


def set_sampler_state(sampler: Sampler, state: dict) -> None:
    """Give a sampler the order of the one whose :func:`sampler_state` this is."""
    vars(sampler).update(state)
