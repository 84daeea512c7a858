"""The closed forms over whole data sets equal what training computes image by image."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, pairwise_iou

from focal_retina import OctaveAnchorGenerator
from focal_retina.anchor_analysis import best_anchors as best_anchors_module
from focal_retina.anchor_analysis import foreground
from focal_retina.anchor_analysis.best_anchors import best_anchors
from focal_retina.anchor_analysis.foreground import without_foreground
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.anchor_analysis.setting import AnchorGrids
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors
from focal_retina.ops.matching.rule import LOW_QUALITY_MATCHES, MatchRule

STRIDES = [8, 16, 32, 64, 128]
SIZES = [[32], [64], [128], [256], [512]]
GENERATORS = {
    "octave": OctaveAnchorGenerator(base_sizes=SIZES, strides=STRIDES, offset=0.5),
    "rounded": OctaveAnchorGenerator(base_sizes=SIZES, strides=STRIDES, round_sides=True),
    "default": DefaultAnchorGenerator(
        sizes=[[24, 31.7], [64, 80], [128, 190], [256, 300], [512, 600]],
        aspect_ratios=[0.3, 1.0, 3.3],
        strides=STRIDES,
    ),
}
IMAGE_SIZES = [(200, 333), (64, 64), (1, 640), (480, 320), (97, 350)]


def random_objects(counts, seed=0):
    """Return objects of all sizes, some of them twice, in images of several sizes."""
    torch.manual_seed(seed)
    boxes, image_idxs = [], []
    for i, count in enumerate(counts):
        height, width = IMAGE_SIZES[i % len(IMAGE_SIZES)]
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        centers = torch.rand(count, 2) * limits[:2]
        sides = torch.exp(torch.randn(count, 1) + torch.randn(count, 2) * 0.4 + 3)
        corners = torch.cat([centers - sides / 2, centers + sides / 2], dim=1)
        found = torch.minimum(corners.clamp(min=0), limits)
        found = torch.cat([found, found[: count // 4]])
        found = found[(found[:, 2:] - found[:, :2] > 1e-5).all(1)]
        boxes.append(found)
        image_idxs.append(torch.full((len(found),), i))
    boxes = torch.cat(boxes)
    return Objects(
        boxes=boxes,
        areas=Boxes(boxes).area().double(),
        image_idxs=torch.cat(image_idxs),
        annotation_ids=list(range(len(boxes))),
        image_sizes=torch.tensor([IMAGE_SIZES[i % len(IMAGE_SIZES)] for i in range(len(counts))]),
        file_names=[f"{i}.png" for i in range(len(counts))],
        num_crowds=0,
        num_empty=0,
    )


def grids_of(name, objects):
    return AnchorGrids.of_images(GENERATORS[name], objects.image_sizes, 32)


def images(objects, grids):
    """Yield each image's boxes, all its anchors and their lattice."""
    for i in range(len(objects.image_sizes)):
        features = [torch.empty(1, 1, *size) for size in grids.of_image(i)]
        anchors = Boxes.cat(grids.generator(features))
        lattice = AnchorLattice.of(grids.generator, grids.of_image(i))
        yield objects.boxes[objects.image_idxs == i], anchors, lattice


@pytest.mark.parametrize("name", GENERATORS)
def test_best_ious_are_those_of_all_anchors(name):
    objects = random_objects([30, 0, 12, 40, 1])
    grids = grids_of(name, objects)
    best = best_anchors(objects, grids)
    dense = [
        pairwise_iou(Boxes(boxes), anchors).amax(1) for boxes, anchors, _ in images(objects, grids)
    ]
    torch.testing.assert_close(best.ious.float(), torch.cat(dense), rtol=1e-4, atol=1e-6)
    of_best = torch.stack(
        [
            pairwise_iou(Boxes(a[None]), Boxes(b[None]))
            for a, b in zip(objects.boxes, best.anchors.float(), strict=True)
        ]
    )
    torch.testing.assert_close(of_best.flatten(), best.ious.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", LOW_QUALITY_MATCHES)
@pytest.mark.parametrize("name", GENERATORS)
def test_objects_without_foreground_are_those_that_labelling_leaves_out(name, mode):
    # Crowds of small and equal objects, which take anchors from each other.
    objects = random_objects([60, 3, 25, 120, 1, 0, 40, 2, 80] * 2, seed=1)
    grids = grids_of(name, objects)
    rule = MatchRule((0.4, 0.5), (0, -1, 1), mode)
    found = without_foreground(objects, grids, best_anchors(objects, grids), rule)
    expected = []
    for boxes, anchors, _ in images(objects, grids):
        matches, labels = match_anchors(anchors.tensor, boxes, rule, backend="reference")
        unmatched = torch.ones(len(boxes), dtype=torch.bool)
        unmatched[matches[labels == 1]] = False
        expected.append(unmatched)
    assert torch.equal(found, torch.cat(expected))
    assert 0 < int(found.sum()) < len(found)


def test_hardly_any_image_is_labelled(monkeypatch):
    objects = random_objects([4, 1, 2, 3, 2] * 40)
    grids = grids_of("octave", objects)
    labelled = []

    def counted(anchors, boxes, rule, lattice):
        labelled.append(len(boxes))
        return match_anchors(anchors, boxes, rule, lattice=lattice)

    monkeypatch.setattr(foreground, "match_anchors", counted)
    rule = MatchRule((0.4, 0.5), (0, -1, 1), "none")
    without_foreground(objects, grids, best_anchors(objects, grids), rule)
    assert len(labelled) < 20


def test_results_do_not_depend_on_chunks(monkeypatch):
    objects = random_objects([30, 0, 12, 40, 1])
    grids = grids_of("octave", objects)
    rule = MatchRule((0.5,), (0, 1), "detectron2")
    whole = best_anchors(objects, grids)
    unmatched = without_foreground(objects, grids, whole, rule)
    monkeypatch.setattr(best_anchors_module, "_PAIRS_PER_CHUNK", 100)
    monkeypatch.setattr(foreground, "_PAIRS_PER_CHUNK", 50)
    chunked = best_anchors(objects, grids)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=0)
    assert torch.equal(without_foreground(objects, grids, chunked, rule), unmatched)
