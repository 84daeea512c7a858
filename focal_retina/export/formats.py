"""Writing an exported model, and running what was written."""

import copy
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.fx.experimental import _config as tracing

from focal_retina.export.modules import RawOutputs, size_divisibility

ONNX_OPSET = 17


def export_onnx(module: RawOutputs, path: str | Path) -> None:
    """Write an ONNX file of opset ``ONNX_OPSET``; ImportError without the export extra."""
    _require("onnx")
    names = module.output_names
    batch = {0: "batch"}
    # What has a detection or an anchor per row; raw outputs have the batch first.
    rows = {0: "anchors" if "anchors" in names else "detections"}
    of_batch = {0: "batch", 1: "anchors"}
    axes = {name: of_batch if name in ("logits", "deltas") else rows for name in names}
    # The dynamo exporter has no symbolic sizes for what NMS leaves.
    torch.onnx.export(
        module,
        (_example(module),),
        str(path),
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["images"],
        output_names=list(names),
        dynamic_axes={"images": batch | {2: "height", 3: "width"}} | axes,
    )


def export_torchscript(module: RawOutputs, path: str | Path) -> None:
    """Write a trace, for ``torch.jit.load``; the boxes' operator is torchvision's."""
    torch.jit.trace(module, _example(module), check_trace=False).save(str(path))


def export_torch_export(module: RawOutputs, path: str | Path) -> None:
    """Write a ``torch.export.ExportedProgram``, for ``torch.export.load``.

    Raises:
        ValueError: the path does not end in .pt2, as PyTorch wants it, or PyTorch is too old.
    """
    if not str(path).endswith(".pt2"):
        raise ValueError(f"the file of torch_export must end in .pt2; {path} does not")
    if not hasattr(tracing, "backed_size_oblivious"):
        raise ValueError(
            f"PyTorch {torch.__version__} cannot export for any image size; install a later one"
        )
    unit = size_divisibility(module.model)
    height, width = (unit * torch.export.Dim(f"{side}_units", min=1) for side in ("h", "w"))
    sizes = {0: torch.export.Dim("batch", min=1), 2: height, 3: width}
    # Or else a branch on a map of one row, or on the layout of channels last, ties the file to the
    # sizes of the example.
    module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    with tracing.patch(backed_size_oblivious=True):
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
        return _onnx_session(path)
    if kind == "torchscript":
        return torch.jit.load(str(path))
    return torch.export.load(str(path)).module()


def _onnx_session(path: str | Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    runtime = _require("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {"images": images.cpu().numpy()})
        return tuple(torch.from_numpy(x) for x in outputs)

    return run


def _require(name: str):
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"export to ONNX needs {name}; install it with: pip install 'focal_retina[export]'"
        ) from error


def _example(module: RawOutputs) -> Tensor:
    # Sides and batch that are all different, and not 1, which tracers take for constants.
    unit = size_divisibility(module.model)
    sides = [k * math.lcm(unit, 128) for k in (2, 3)]
    return torch.zeros(2, 3, *sides, device=module.model.device)
