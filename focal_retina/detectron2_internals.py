"""Every private name of Detectron2, fvcore and PyTorch that this package leans on.

Other modules use the public names given here. ``tests/test_detectron2_internals.py`` has a test for
each, which fails when another release changes it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import hooks
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from fvcore.common.registry import Registry
from torch import Tensor, nn
from torch.utils.data import Sampler

from focal_retina.errors import UserError

# Layers that behave in another way in training: of any number of dimensions.
BatchNorm = nn.modules.batchnorm._BatchNorm
Dropout = nn.modules.dropout._DropoutNd


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


def lerp_all_(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Move each tensor in place by a share ``weight`` of the way to its end."""
    torch._foreach_lerp_(tensors, ends, weight)


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


def replace_coco_api(evaluator: COCOEvaluator, kind: Callable[[dict], object]) -> None:
    """Let an evaluator keep its dataset in what ``kind`` makes of it."""
    evaluator._coco_api = kind(evaluator._coco_api.dataset)


@contextmanager
def coco_eval_class(replacement) -> Iterator[None]:
    """Let Detectron2's COCO evaluation use another class than pycocotools' ``COCOeval``."""
    original = coco_evaluation.COCOeval
    coco_evaluation.COCOeval = replacement
    try:
        yield
    finally:
        coco_evaluation.COCOeval = original


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

    def arrays_to_tensors(self, weights: dict) -> None:
        """Turn NumPy arrays into tensors, in place; raise a UserError at anything else."""
        try:
            self._convert_ndarray_to_tensor(weights)
        except ValueError as error:
            raise UserError(str(error)) from error

    def asks_for_matching(self) -> bool:
        """Return whether the file being loaded was named with ?matching_heuristics=True."""
        return self._parsed_url_during_load.query == "matching_heuristics=True"


def sampler_state(sampler: Sampler) -> dict[str, bool | int | float | Tensor]:
    """Return what the order of a sampler's indices depends on, but for the rank of its process.

    Detectron2's samplers keep their seeds in attributes alone.
    """
    return {
        name: value
        for name, value in vars(sampler).items()
        if name not in ("_rank", "_world_size") and isinstance(value, bool | int | float | Tensor)
    }


def set_sampler_state(sampler: Sampler, state: dict) -> None:
    """Give a sampler the order of the one whose :func:`sampler_state` this is."""
    vars(sampler).update(state)
