"""Weights of every project's RetinaNet, a few channels wide, by the names that it gives them."""

import numpy as np
import torch

WIDTH, CLASSES = 4, 3
BLOCKS = {"basic": (2, 2, 2, 2), "bottleneck": (3, 4, 6, 3)}


def _resnet(prefix):
    """Yield names and shapes of a ResNet-18 as torchvision has it."""
    yield f"{prefix}conv1.weight", (WIDTH, 3, 7, 7)
    yield from _norm(f"{prefix}bn1.", WIDTH)
    inputs = WIDTH
    for stage, count in enumerate(BLOCKS["basic"]):
        width = WIDTH * 2**stage
        for block in range(count):
            name = f"{prefix}layer{stage + 1}.{block}."
            for conv, channels in ((1, inputs), (2, width)):
                yield f"{name}conv{conv}.weight", (width, channels, 3, 3)
                yield from _norm(f"{name}bn{conv}.", width)
            if inputs != width:
                yield f"{name}downsample.0.weight", (width, inputs, 1, 1)
                yield from _norm(f"{name}downsample.1.", width)
            inputs = width


def _norm(prefix, width):
    yield from ((f"{prefix}{x}", (width,)) for x in ("weight", "bias"))
    yield from ((f"{prefix}running_{x}", (width,)) for x in ("mean", "var"))
    yield f"{prefix}num_batches_tracked", ()


def _convs(names, shapes):
    for name, shape in zip(names, shapes, strict=True):
        yield f"{name}weight", shape
        yield f"{name}bias", shape[:1]


# Three lateral and five output convolutions, and two subnets of one convolution each.
NECK = [(WIDTH, WIDTH * 2**i, 1, 1) for i in (1, 2, 3)] + [(WIDTH, WIDTH, 3, 3)] * 5
HEAD = [(rows, WIDTH, 3, 3) for rows in (WIDTH, 9 * CLASSES, WIDTH, 36)]


def _torchvision():
    yield from _resnet("backbone.body.")
    fpn = [f"backbone.fpn.{x}_blocks.{i}.0." for x in ("inner", "layer") for i in range(3)]
    yield from _convs([*fpn, *(f"backbone.fpn.extra_blocks.p{i}." for i in (6, 7))], NECK)
    parts = {"classification": "cls_logits", "regression": "bbox_reg"}
    heads = [f"head.{k}_head.{x}." for k, last in parts.items() for x in ("conv.0.0", last)]
    yield from _convs(heads, HEAD)


def _mmdetection():
    yield from _resnet("backbone.")
    fpn = [f"neck.{x}_convs.{i}.conv." for x, n in (("lateral", 3), ("fpn", 5)) for i in range(n)]
    yield from _convs(fpn, NECK)
    heads = [x for k in ("cls", "reg") for x in (f"{k}_convs.0.conv.", f"retina_{k}.")]
    yield from _convs([f"bbox_head.{x}" for x in heads], HEAD)


def _detectron2():
    """Yield the names of a ``FocalRetinaNet``, from torchvision's."""
    from focal_retina.checkpoint.conversion import common, torchvision

    for name, shape in _torchvision():
        yield common.rename(name, torchvision.names(False)), shape


def _detectron1():
    """Yield blobs of a ResNet-50: the one that Detectron has."""
    yield "conv1_w", (WIDTH, 3, 7, 7)
    yield from ((f"res_conv1_bn_{x}", (WIDTH,)) for x in "sb")
    inputs = WIDTH
    for stage, count in enumerate(BLOCKS["bottleneck"], start=2):
        width, outputs = WIDTH * 2 ** (stage - 2), WIDTH * 2**stage
        for block in range(count):
            shapes = {"2a": (width, inputs, 1, 1), "2b": (width, width, 3, 3)}
            shapes |= {"2c": (outputs, width, 1, 1)}
            shapes |= {"1": (outputs, inputs, 1, 1)} if block == 0 else {}
            for branch, shape in shapes.items():
                name = f"res{stage}_{block}_branch{branch}"
                yield f"{name}_w", shape
                yield from ((f"{name}_bn_{x}", shape[:1]) for x in "sb")
            inputs = outputs
    last = {3: 3, 4: 5, 5: 2}
    names = [f"fpn_inner_res{i}_{k}_sum{'_lateral' * (i < 5)}" for i, k in last.items()]
    names += [*(f"fpn_res{i}_{k}_sum" for i, k in last.items()), "fpn_6", "fpn_7"]
    names += [f"retnet_{k}_{x}_fpn3" for k in ("cls", "bbox") for x in ("conv_n0", "pred")]
    neck = [(WIDTH, WIDTH * 2**i, 1, 1) for i in (3, 4, 5)] + [(WIDTH, WIDTH, 3, 3)] * 5
    for name, shape in zip(names, [*neck, *HEAD], strict=True):
        yield f"{name}_w", shape
        yield f"{name}_b", shape[:1]


SOURCES = {
    "torchvision": _torchvision,
    "mmdetection": _mmdetection,
    "detectron2": _detectron2,
    "detectron1": _detectron1,
}


def small_state(source: str) -> dict[str, torch.Tensor]:
    """Return weights under the names of a source, which ``convert`` takes."""
    generator = torch.Generator().manual_seed(0)
    state = {k: torch.rand(shape, generator=generator) for k, shape in SOURCES[source]()}
    return {k: x.long() if k.endswith("tracked") else x for k, x in state.items()}


def checkpoint_of(source: str) -> dict:
    """Return a whole checkpoint of a source, as its project writes it."""
    state = small_state(source)
    text = "model = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], target_stds=[1, 1, 1, 1])"
    return {
        "torchvision": {"state_dict": state, "label_dict": {"a": 0, "b": 1, "c": 2}},
        "mmdetection": {"state_dict": state, "meta": {"cfg": text, "CLASSES": ("a", "b", "c")}},
        "detectron2": {"model": state, "class_names": ["a", "b", "c"], "category_ids": [1, 2, 7]},
        "detectron1": {
            "blobs": {k: x.numpy() for k, x in state.items()} | {"lr": np.float32(0.1)},
            "cfg": "RESNETS:\n  STRIDE_1X1: True\n",
        },
    }[source]
