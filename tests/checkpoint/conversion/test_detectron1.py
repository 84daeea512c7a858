"""Detectron's RetinaNet by its blobs' names, and its forward pass written out."""

import pickle

import numpy as np
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from helpers.foreign_models import built, outputs, synthetic_images
from torch.nn import functional as F

from focal_retina.tools.convert_checkpoint import main

CLASSES, CHANNELS = 4, 16
STRIDES = [8, 16, 32, 64, 128]


class Detectron:
    """Detectron's network on a ResNet-50, half as wide; a blob is drawn where it is first used."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.blobs = {"lr": np.float32(0.01), "conv1_w_momentum": np.zeros(1, np.float32)}

    def blob(self, name, distribution, *parameters):
        if name not in self.blobs:
            self.blobs[name] = distribution(*parameters).astype("f4")
        return torch.as_tensor(self.blobs[name])

    def conv(self, x, name, out=CHANNELS, size=3, stride=1, bias=True):
        shape = (out, x.shape[1], size, size)
        std = (2 / (x.shape[1] * size * size)) ** 0.5
        weight = self.blob(f"{name}_w", self.random.normal, 0, std, shape)
        bias = self.blob(f"{name}_b", self.random.normal, 0, 0.1, out) if bias else None
        return F.conv2d(x, weight, bias, stride, size // 2)

    def conv_affine(self, x, name, out, size, stride=1, affine=None):
        x = self.conv(x, name, out, size, stride, bias=False)
        scale = self.blob(f"{affine or name}_bn_s", self.random.uniform, 0.5, 0.9, out)
        offset = self.blob(f"{affine or name}_bn_b", self.random.normal, 0, 0.1, out)
        return x * scale.view(-1, 1, 1) + offset.view(-1, 1, 1)

    def block(self, x, name, width, stride):
        shortcut = x
        if x.shape[1] != 4 * width:
            shortcut = self.conv_affine(x, f"{name}1", 4 * width, 1, stride)
        y = F.relu(self.conv_affine(x, f"{name}2a", width, 1, stride))  # STRIDE_1X1
        y = F.relu(self.conv_affine(y, f"{name}2b", width, 3))
        return F.relu(self.conv_affine(y, f"{name}2c", 4 * width, 1) + shortcut)

    def head(self, x, part, rows):
        for i in range(2):
            x = F.relu(self.conv(x, f"retnet_{part}_conv_n{i}_fpn3"))
        return self.conv(x, f"retnet_{part}_pred_fpn3", rows)

    def outputs(self, x):
        """Return logits and deltas, L x (1, A*V, H, W)."""
        x = F.max_pool2d(F.relu(self.conv_affine(x, "conv1", 64, 7, 2, "res_conv1")), 3, 2, 1)
        c = {}
        for stage, count in enumerate((3, 4, 6, 3), start=2):
            for i in range(count):
                stride = 2 if i == 0 and stage > 2 else 1
                x = self.block(x, f"res{stage}_{i}_branch", 8 * 2**stage, stride)
            c[stage] = x
        inner = self.conv(c[5], "fpn_inner_res5_2_sum", size=1)
        p = [self.conv(inner, "fpn_res5_2_sum")]
        for stage, last in ((4, 5), (3, 3)):
            up = F.interpolate(inner, scale_factor=2, mode="nearest")
            lateral = f"fpn_inner_res{stage}_{last}_sum_lateral"
            inner = self.conv(c[stage], lateral, size=1) + up
            p.insert(0, self.conv(inner, f"fpn_res{stage}_{last}_sum"))
        p.append(self.conv(c[5], "fpn_6", stride=2))
        p.append(self.conv(F.relu(p[-1]), "fpn_7", stride=2))
        parts = (("cls", 9 * CLASSES), ("bbox", 9 * 4))
        return [[self.head(x, part, rows) for x in p] for part, rows in parts]


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
    image = F.pad(synthetic_images()[0], (0, 0, 0, 32))  # to 128's multiples
    mean = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    theirs = Detectron()
    expected = theirs.outputs((image - mean)[None])
    source = tmp_path / "model_final.pkl"
    # As Python 2 wrote them.
    source.write_bytes(pickle.dumps({"blobs": theirs.blobs, "cfg": "MODEL: {}"}, protocol=2))
    assert main([str(source), str(tmp_path / "target.pth")]) == 0
    cfg, ours = built(tmp_path / "target.yaml")
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
