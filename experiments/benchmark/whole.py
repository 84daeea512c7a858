"""Cases of the whole model: the training step without the optimizer, and inference."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from torch import nn

from experiments.benchmark.inputs import Setting, random_batch
from experiments.benchmark.measuring import Case, Contestant
from experiments.benchmark.models import (
    detectron2_retinanet,
    focal_retinanet,
    torchvision_inputs,
    torchvision_retinanet,
)
from experiments.benchmark.postprocessing import result_of_instances
from focal_retina.acceleration.folding import folded_batch_norm

MODELS = {
    "Detectron2": detectron2_retinanet,
    "torchvision": torchvision_retinanet,
    "focal_retina": focal_retinanet,
}
# What autocast rounds to; None for no autocast.
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CONTESTANTS = (
    ("Detectron2", "fp32"),
    ("Detectron2", "bf16"),
    ("torchvision", "fp32"),
    ("focal_retina", "fp32"),
    ("focal_retina", "bf16"),
)


def training_cases(
    setting: Setting, contestants: Sequence[tuple[str, str]] = CONTESTANTS
) -> Iterator[Case]:
    """Yield a training step of one image with 20 objects."""
    batch = random_batch(setting, 1)
    in_training = {f"{n} {p}": _in_training(setting, n, p, batch) for n, p in contestants}
    yield Case("training", "step, 1 image", "Detectron2 fp32", in_training)


def inference_cases(setting: Setting) -> Iterator[Case]:
    """Yield inference of one image; ours with batch normalisation folded, as when evaluating."""
    batch = random_batch(setting, 1)
    with contextlib.ExitStack() as stack:
        contestants = {
            f"{n} {p}": _in_inference(setting, n, p, batch, stack) for n, p in CONTESTANTS
        }
        macs = _convolution_macs(setting, batch)
        for precision in ("fp32", "bf16"):
            limit = _convolution_limit(setting, precision, macs)
            contestants[f"limit: convolution rate {precision}"] = limit
        yield Case("inference", "1 image", "Detectron2 fp32", contestants)


def throughput_cases(setting: Setting) -> Iterator[Case]:
    """Yield training step and inference of a batch in low precision.

    On CUDA Detectron2 and torchvision take float16, the precision of Detectron2's AMP, here
    without its loss scaling, which is one multiplication; on a CPU bfloat16.
    """
    batch = random_batch(setting, setting.batch_size)
    amp = "fp16" if setting.device == "cuda" else "bf16"
    names = (("Detectron2", amp), ("torchvision", amp), ("focal_retina", "bf16"))
    size, baseline = f"batch of {setting.batch_size}", f"Detectron2 {amp}"
    amount = setting.batch_size, "images"
    contestants = {f"{n} {p}": _in_training(setting, n, p, batch) for n, p in names}
    yield Case("throughput", f"training step, {size}", baseline, contestants, *amount)
    with contextlib.ExitStack() as stack:
        contestants = {f"{n} {p}": _in_inference(setting, n, p, batch, stack) for n, p in names}
        yield Case("throughput", f"inference, {size}", baseline, contestants, *amount)


def training_step(model: nn.Module, inputs: tuple, precision: str) -> dict[str, dict]:
    """Return losses and gradients by name; the model keeps none of them."""
    with EventStorage(), _autocast(model, precision):
        losses = model(*inputs)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {"losses": {name: x.detach() for name, x in losses.items()}, "gradients": gradients}


@torch.no_grad()
def infer(model: nn.Module, inputs: tuple, precision: str) -> list[dict]:
    """Return a model's detections."""
    with _autocast(model, precision):
        return model(*inputs)


def _in_training(setting: Setting, name: str, precision: str, batch: list[dict]) -> Contestant:
    model, inputs = MODELS[name](setting), (batch,)
    if name == "torchvision":
        inputs = torchvision_inputs(batch)
    return Contestant(lambda: training_step(model, inputs, precision), note=_note(name, precision))


def _in_inference(
    setting: Setting,
    name: str,
    precision: str,
    batch: list[dict],
    stack: contextlib.ExitStack,
) -> Contestant:
    model, inputs = MODELS[name](setting).eval(), (batch,)
    if name == "torchvision":
        inputs = torchvision_inputs(batch)[:1]
    if name == "focal_retina":
        stack.enter_context(folded_batch_norm(model))
    return Contestant(
        lambda: infer(model, inputs, precision), _result_of_outputs, _note(name, precision)
    )


def _result_of_outputs(outputs: list[dict]) -> Any:
    # Not for torchvision's, whose weights are others.
    return [result_of_instances(x["instances"]) for x in outputs]


def _note(name: str, precision: str) -> str:
    notes = ["other weights; P6 from P5"] if name == "torchvision" else []
    if PRECISIONS[precision] is not None:
        notes.append(f"rounded to {precision}")
    return "; ".join(notes)


def _autocast(model: nn.Module, precision: str) -> torch.autocast:
    dtype = PRECISIONS[precision]
    device = next(model.parameters()).device
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def _convolution_macs(setting: Setting, batch: list[dict]) -> int:
    """Return the multiplications of all convolutions of the model for a batch."""
    model = detectron2_retinanet(setting).eval()
    analysis = FlopCountAnalysis(model, [{"image": x["image"]} for x in batch])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").by_operator()["conv"]


def _convolution_limit(setting: Setting, precision: str, macs: int) -> Contestant:
    """Return all convolutions of the model at the rate of the head's own on P3."""
    dtype = PRECISIONS[precision] or torch.float32
    height, width = setting.grid_sizes[0]
    x, weight = (
        torch.randn(shape, device=setting.device, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
        for shape in ((1, 256, height, width), (256, 256, 3, 3))
    )
    calls = macs / (height * width * weight.numel())

    @torch.no_grad()
    def run() -> None:
        F.conv2d(x, weight, padding=1)

    return Contestant(
        run, note="that of the head's direct ones on P3, for all convolutions", calls=calls
    )
