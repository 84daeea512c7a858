"""Detectron's RetinaNet by its blobs' names, and its forward pass written out."""

import pickle

import numpy as np
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from helpers.foreign_models import built, outputs, synthetic_images
from torch.nn import functional as F

from focal_retina.tools.convert_checkpoint import main

BLOCKS, CLASSES, CHANNELS = (3, 4, 6, 3), 4, 16
STRIDES = [8, 16, 32, 64, 128]


def random_blobs():
    """Return the blobs of a thin ResNet-50, half as wide, with FPN and head."""
    generator = np.random.default_rng(0)
    blobs = {"lr": np.float32(0.01), "conv1_w_momentum": np.zeros(1, np.float32)}

    def conv(name, inputs, out, size, bias=True):
        std = (2 / (inputs * size * size)) ** 0.5
        blobs[f"{name}_w"] = generator.normal(0, std, (out, inputs, size, size)).astype("f4")
        if bias:
            blobs[f"{name}_b"] = generator.normal(0, 0.1, out).astype("f4")

    def affine(name, channels):
        blobs[f"{name}_bn_s"] = generator.uniform(0.5, 0.9, channels).astype("f4")
        blobs[f"{name}_bn_b"] = generator.normal(0, 0.1, channels).astype("f4")

    conv("conv1", 3, 64, 7, bias=False)
    affine("res_conv1", 64)
    inputs = 64
    for stage, count in enumerate(BLOCKS, start=2):
        w = 32 * 2 ** (stage - 2)
        for block in range(count):
            name = f"res{stage}_{block}_branch"
            shapes = [("2a", inputs, w, 1), ("2b", w, w, 3), ("2c", w, 4 * w, 1)]
            shapes += [("1", inputs, 4 * w, 1)] if block == 0 else []
            for branch, *shape in shapes:
                conv(name + branch, *shape, bias=False)
                affine(name + branch, shape[1])
            inputs = 4 * w
        if stage > 2:
            lateral = "" if stage == 5 else "_lateral"
            conv(f"fpn_inner_res{stage}_{count - 1}_sum{lateral}", inputs, CHANNELS, 1)
            conv(f"fpn_res{stage}_{count - 1}_sum", CHANNELS, CHANNELS, 3)
    conv("fpn_6", inputs, CHANNELS, 3)
    conv("fpn_7", CHANNELS, CHANNELS, 3)
    for part, rows in (("cls", 9 * CLASSES), ("bbox", 9 * 4)):
        for i in range(2):
            conv(f"retnet_{part}_conv_n{i}_fpn3", CHANNELS, CHANNELS, 3)
        conv(f"retnet_{part}_pred_fpn3", CHANNELS, rows, 3)
    return blobs


def reference(blobs, x):
    """Return logits and deltas, L x (1, A*V, H, W), of Detectron's network."""
    blobs = {k: torch.as_tensor(v) for k, v in blobs.items()}

    def conv(x, name, stride=1):
        weight = blobs[f"{name}_w"]
        return F.conv2d(x, weight, blobs.get(f"{name}_b"), stride, weight.shape[-1] // 2)

    def affine(x, name):
        scale, offset = blobs[f"{name}_bn_s"], blobs[f"{name}_bn_b"]
        return x * scale.view(-1, 1, 1) + offset.view(-1, 1, 1)

    x = F.max_pool2d(F.relu(affine(conv(x, "conv1", 2), "res_conv1")), 3, 2, 1)
    c = {}
    for stage, count in enumerate(BLOCKS, start=2):
        for block in range(count):
            name = f"res{stage}_{block}_branch"
            stride = 2 if block == 0 and stage > 2 else 1
            shortcut = x
            if block == 0:
                shortcut = affine(conv(x, name + "1", stride), name + "1")
            y = F.relu(affine(conv(x, name + "2a", stride), name + "2a"))  # STRIDE_1X1
            y = F.relu(affine(conv(y, name + "2b"), name + "2b"))
            x = F.relu(affine(conv(y, name + "2c"), name + "2c") + shortcut)
        c[stage] = x
    inner = conv(c[5], "fpn_inner_res5_2_sum")
    p = [conv(inner, "fpn_res5_2_sum")]
    for stage, last in ((4, 5), (3, 3)):
        up = F.interpolate(inner, scale_factor=2, mode="nearest")
        inner = conv(c[stage], f"fpn_inner_res{stage}_{last}_sum_lateral") + up
        p.insert(0, conv(inner, f"fpn_res{stage}_{last}_sum"))
    p.append(conv(c[5], "fpn_6", 2))
    p.append(conv(F.relu(p[-1]), "fpn_7", 2))

    def head(x, part):
        for i in range(2):
            x = F.relu(conv(x, f"retnet_{part}_conv_n{i}_fpn3"))
        return conv(x, f"retnet_{part}_pred_fpn3")

    return [[head(x, part) for x in p] for part in ("cls", "bbox")]


def inclusive_anchors(stride, height, width):
    """Return Detectron's anchors of a level, (y, x, octave, aspect), inclusive pixel corners."""
    centre = (stride - 1) / 2
    cells = []
    for octave in range(3):
        for aspect in (0.5, 1.0, 2.0):
            w = np.round(np.sqrt(stride * stride / aspect))
            h = np.round(w * aspect)
            w, h = (side * 4 * 2 ** (octave / 3) for side in (w, h))
            half = np.array([w - 1, h - 1]) / 2
            cells.append(np.concatenate([centre - half, centre + half]))
    y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return torch.tensor((shifts + np.array(cells)).reshape(-1, 4), dtype=torch.float32)


@torch.no_grad()
def test_logits_and_boxes_are_those_of_the_reference(tmp_path):
    blobs = random_blobs()
    source = tmp_path / "model_final.pkl"
    # As Python 2 wrote them.
    source.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "MODEL: {}"}, protocol=2))
    assert main([str(source), str(tmp_path / "target.pth")]) == 0
    cfg, ours = built(tmp_path / "target.yaml")
    image = torch.nn.functional.pad(synthetic_images()[0], (0, 0, 0, 32))  # to 128's multiples
    mean = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    expected = reference(blobs, (image - mean)[None])
    found = outputs(ours, [image])
    for ours_i, theirs_i in zip(found, expected, strict=True):
        for level, expected_level in zip(ours_i, theirs_i, strict=True):
            scale = max(1.0, float(expected_level.abs().max()))
            assert (level - expected_level).abs().max() <= 1e-4 * scale

    anchors = ours.anchor_generator(found[0])
    for boxes, logits, stride in zip(anchors, found[0], STRIDES, strict=True):
        inclusive = inclusive_anchors(stride, *logits.shape[-2:])
        exclusive = inclusive + torch.tensor([0.0, 0.0, 1.0, 1.0])
        torch.testing.assert_close(boxes.tensor, exclusive, atol=1e-3, rtol=0)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == CLASSES
    assert isinstance(ours.postprocessor.box2box_transform, Box2BoxTransform)
    assert ours.postprocessor.score_thresh_last_level == 0.0
