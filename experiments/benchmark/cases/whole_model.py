"""Cases of the whole model: the training step without the optimizer, and inference."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from torch import nn

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.cases.postprocessing import result_of_instances
from experiments.benchmark.random_inputs import random_batch
from experiments.benchmark.retinanets import RETINANETS, detectron2_retinanet, torchvision_inputs
from experiments.benchmark.setting import Setting
from focal_retina.acceleration.folding import folded_batch_norm

# The dtype of autocast; None for no autocast.
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MODELS_AND_PRECISIONS = (
    ("Detectron2", "fp32"),
    ("Detectron2", "bf16"),
    ("torchvision", "fp32"),
    ("focal_retina", "fp32"),
    ("focal_retina", "bf16"),
)
Pairs = Sequence[tuple[str, str]]  # names of model and precision


def training_cases(setting: Setting, pairs: Pairs = MODELS_AND_PRECISIONS) -> Iterator[Case]:
    """Yield a training step of one image with 20 objects."""
    steps = _training_steps(setting, pairs, random_batch(setting, 1))
    yield Case("training", "step, 1 image", "Detectron2 fp32", steps)


def inference_cases(setting: Setting) -> Iterator[Case]:
    """Yield inference of one image; ours with folded batch normalisation, as in an evaluation."""
    batch = random_batch(setting, 1)
    with contextlib.ExitStack() as stack:
        implementations = _inferences(setting, MODELS_AND_PRECISIONS, batch, stack)
        macs = _convolution_macs(setting, batch)
        for precision in ("fp32", "bf16"):
            limit = _convolution_limit(setting, precision, macs)
            implementations[f"limit: convolution rate {precision}"] = limit
        yield Case("inference", "1 image", "Detectron2 fp32", implementations)


def throughput_cases(setting: Setting) -> Iterator[Case]:
    """Yield training step and inference of a batch in low precision.

    That is bfloat16. On CUDA Detectron2 and torchvision take float16, the precision of Detectron2's
    AMP, but without its loss scaling, which is one multiplication.
    """
    batch = random_batch(setting, setting.batch_size)
    amp = "fp16" if setting.device == "cuda" else "bf16"
    pairs = (("Detectron2", amp), ("torchvision", amp), ("focal_retina", "bf16"))
    size, baseline = f"batch of {setting.batch_size}", f"Detectron2 {amp}"
    steps = _training_steps(setting, pairs, batch)
    yield Case("throughput", f"training step, {size}", baseline, steps)
    with contextlib.ExitStack() as stack:
        inferences = _inferences(setting, pairs, batch, stack)
        yield Case("throughput", f"inference, {size}", baseline, inferences)


def training_step(model: nn.Module, inputs: tuple, precision: str) -> dict[str, dict]:
    """Return losses and gradients by name, and leave the model without gradients."""
    with EventStorage(), _autocast(model, precision):
        losses = model(*inputs)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {"losses": {name: x.detach() for name, x in losses.items()}, "gradients": gradients}


@torch.no_grad()
def infer(model: nn.Module, images: list, precision: str) -> list[dict]:
    """Return a model's detections."""
    with _autocast(model, precision):
        return model(images)


def _training_steps(setting: Setting, pairs: Pairs, batch: list[dict]) -> dict[str, Implementation]:
    implementations = {}
    for name, precision in pairs:
        inputs = torchvision_inputs(batch) if name == "torchvision" else (batch,)
        run = partial(training_step, RETINANETS[name](setting), inputs, precision)
        implementations[f"{name} {precision}"] = Implementation(run, note=_note(name, precision))
    return implementations


def _inferences(
    setting: Setting, pairs: Pairs, batch: list[dict], stack: contextlib.ExitStack
) -> dict[str, Implementation]:
    """Return the implementations by name; ``stack`` keeps our models folded until it closes."""
    implementations = {}
    for name, precision in pairs:
        model = RETINANETS[name](setting).eval()
        if name == "focal_retina":
            stack.enter_context(folded_batch_norm(model))
        images = torchvision_inputs(batch)[0] if name == "torchvision" else batch
        run = partial(infer, model, images, precision)
        note = _note(name, precision)
        implementations[f"{name} {precision}"] = Implementation(run, _result_of_outputs, note)
    return implementations


def _result_of_outputs(outputs: list[dict]) -> Any:
    # Not for torchvision's model, which has other weights.
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
    """Return the number of multiplications in all convolutions of the model, for a batch."""
    model = detectron2_retinanet(setting).eval()
    analysis = FlopCountAnalysis(model, [{"image": x["image"]} for x in batch])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").by_operator()["conv"]


def _convolution_limit(setting: Setting, precision: str, macs: int) -> Implementation:
    """Return the limit: all convolutions of the model at the rate of one of the head on P3."""
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

    note = "all convolutions at the rate of a direct one of the head on P3"
    return Implementation(run, note=note, calls=calls)
