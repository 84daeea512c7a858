"""Writing an exported model to a file, and running the file."""

import copy
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from focal_retina.detectron2_internals import sizes_not_specialised
from focal_retina.errors import MissingExtraError, UserError
from focal_retina.export.modules import RawOutputs, size_divisibility

ONNX_OPSET = 17


def export_onnx(module: RawOutputs, path: str | Path) -> None:
    """Write an ONNX file of opset ``ONNX_OPSET``.

    Raises:
        MissingExtraError: the packages for ONNX are not installed.
    """
    _import("onnx")
    axes = {"images": {0: "batch", 2: "height", 3: "width"}}
    for name in module.output_names:
        if name in ("logits", "deltas"):
            axes[name] = {0: "batch", 1: "anchors"}
        else:
            axes[name] = {0: "anchors" if name == "anchors" else "detections"}
    # The newer exporter (dynamo=True) has no symbolic size for the number of detections after NMS.
    torch.onnx.export(
        module,
        (_example(module),),
        str(path),
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["images"],
        output_names=list(module.output_names),
        dynamic_axes=axes,
    )


def export_torchscript(module: RawOutputs, path: str | Path) -> None:
    """Write a trace for ``torch.jit.load``; it needs torchvision for NMS."""
    torch.jit.trace(module, _example(module), check_trace=False).save(str(path))


def export_torch_export(module: RawOutputs, path: str | Path) -> None:
    """Write a ``torch.export.ExportedProgram``, for ``torch.export.load``.

    Raises:
        UserError: the path does not end in .pt2, which PyTorch asks for, or PyTorch is too old.
    """
    if not str(path).endswith(".pt2"):
        raise UserError(f"the file of torch_export must end in .pt2; {path} does not")
    unit = size_divisibility(module.model)
    height, width = (unit * torch.export.Dim(f"{side}_units", min=1) for side in ("h", "w"))
    sizes = {0: torch.export.Dim("batch", min=1), 2: height, 3: width}
    # Otherwise a branch on a map of one row, or on the layout channels_last, ties the file to the
    # sizes of the example.
    module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    with sizes_not_specialised():
        program = torch.export.export(
            module, (_example(module),), dynamic_shapes=(sizes,), strict=False
        )
    torch.export.save(program, str(path))


EXPORTERS = {
    "onnx": export_onnx,
    "torchscript": export_torchscript,
    "torch_export": export_torch_export,
}


def load_exported(kind: str, path: str | Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return the function from images to outputs that a file holds.

    Args:
        kind: a key of ``EXPORTERS``.
    """
    if kind == "onnx":
        return _load_onnx(path)
    if kind == "torchscript":
        return torch.jit.load(str(path))
    return torch.export.load(str(path)).module()


def _load_onnx(path: str | Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    runtime = _import("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {"images": images.cpu().numpy()})
        return tuple(torch.from_numpy(x) for x in outputs)

    return run


def _import(name: str):
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"export to ONNX needs {name}; install it with: pip install 'focal_retina[export]'"
        ) from error


def _example(module: RawOutputs) -> Tensor:
    # The batch and both sides differ from each other and from 1: tracers take 1 for a constant.
    unit = size_divisibility(module.model)
    sides = [k * math.lcm(unit, 128) for k in (2, 3)]
    return torch.zeros(2, 3, *sides, device=module.model.device)
