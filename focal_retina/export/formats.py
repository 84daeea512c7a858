"""Write an exported model to a file, run the file, and compare it with PyTorch."""

import copy
import io
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from focal_retina.detectron2_internals import sizes_not_specialised
from focal_retina.errors import MissingExtraError, UserError
from focal_retina.export.modules import RawOutputs
from focal_retina.files import output

ONNX_OPSET = 17
# Distance between detections of different classes or images.
_FAR = 1e6


def export_onnx(module: RawOutputs, path: str | Path) -> None:
    """Write an ONNX file; MissingExtraError if the packages for it are not installed."""
    _import("onnx")
    # The newer exporter (dynamo=True) has no symbolic size for the number of detections after NMS.
    torch.onnx.export(
        module,
        (_example(module),),
        buffer := io.BytesIO(),
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["images"],
        output_names=list(module.output_axes),
        dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, **module.output_axes},
    )
    _write(path, buffer)


def export_torchscript(module: RawOutputs, path: str | Path) -> None:
    """Write a trace for ``torch.jit.load``; it needs torchvision for NMS."""
    traced = torch.jit.trace(module, _example(module), check_trace=False)
    torch.jit.save(traced, buffer := io.BytesIO())
    _write(path, buffer)


def export_torch_export(module: RawOutputs, path: str | Path) -> None:
    """Write a .pt2 for ``torch.export.load``; UserError for other paths or a PyTorch too old."""
    if not str(path).endswith(".pt2"):
        raise UserError(f"the file of torch_export must end in .pt2; {path} does not")
    unit = module.size_divisibility
    height, width = (unit * torch.export.Dim(f"{side}_units", min=1) for side in ("h", "w"))
    sizes = {0: torch.export.Dim("batch", min=1), 2: height, 3: width}
    # Otherwise a branch on a map of one row, or on the layout channels_last, ties the file to the
    # sizes of the example.
    module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    with sizes_not_specialised():
        program = torch.export.export(
            module, (_example(module),), dynamic_shapes=(sizes,), strict=False
        )
    torch.export.save(program, buffer := io.BytesIO())
    _write(path, buffer)


def _write(path: str | Path, buffer: io.BytesIO) -> None:
    # PyTorch's own writers abort the process where the disk is full.
    with output(path) as unfinished:
        Path(unfinished).write_bytes(buffer.getbuffer())


EXPORTERS = {
    "onnx": export_onnx,
    "torchscript": export_torchscript,
    "torch_export": export_torch_export,
}


def load_exported(kind: str, path: str | Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return the function from images to outputs that a file holds; kind is one of EXPORTERS."""
    if kind == "torchscript":
        return torch.jit.load(str(path))
    if kind == "torch_export":
        return torch.export.load(str(path)).module()
    runtime = _import("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {"images": images.cpu().numpy()})
        return tuple(torch.from_numpy(x) for x in outputs)

    return run


def largest_difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of boxes (pixels), scores or raw outputs.

    Rounding may change the order and the number of detections. So each is compared with the
    nearest of its class and image, in both directions. If there is none, the result is at least
    1e6, or infinite.
    Both are outputs of ``RawOutputs`` (3 tensors) or of ``Detections`` (4).
    """
    if len(expected) == 3:
        return max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    first, second = _points(*expected), _points(*found)
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else float("inf")
    distances = torch.cdist(first, second, p=float("inf"))
    return float(torch.maximum(distances.amin(1).amax(), distances.amin(0).amax()))


def _points(boxes: Tensor, scores: Tensor, classes: Tensor, image_idxs: Tensor) -> Tensor:
    columns = [scores, classes * _FAR, image_idxs * _FAR]
    return torch.cat([boxes.double(), torch.stack([x.double() for x in columns], 1)], dim=1)


def _import(name: str):
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"export to ONNX needs {name}; install it with: pip install 'focal_retina[export]'"
        ) from error


def _example(module: RawOutputs) -> Tensor:
    # The batch and both sides differ from each other and from 1: tracers take 1 for a constant.
    sides = [k * math.lcm(module.size_divisibility, 128) for k in (2, 3)]
    return torch.zeros(2, 3, *sides, device=module.model.device)
