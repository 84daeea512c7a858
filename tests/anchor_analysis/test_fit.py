"""What is measured of anchors equals what training computes image by image."""

import dataclasses

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, Instances, pairwise_iou
from helpers.matching_cases import centred, clipped

from focal_retina import OctaveAnchorGenerator
from focal_retina.anchor_analysis import fit as fit_module
from focal_retina.anchor_analysis.anchor_config import AnchorConfig, AnchorGrids, AnchorShapes
from focal_retina.anchor_analysis.fit import AnchorFit, best_ious, is_no_worse, measure_fit, scores
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.ops.matching.rule import LOW_QUALITY_MATCHES, MatchRule

SHAPES = AnchorShapes([], [], 3)
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
    image_sizes = torch.tensor([IMAGE_SIZES[i % len(IMAGE_SIZES)] for i in range(len(counts))])
    boxes = []
    for count, size in zip(counts, image_sizes.float(), strict=True):
        image = size.flip(0)
        centers = torch.rand(count, 2) * image
        sides = torch.exp(torch.randn(count, 1) + torch.randn(count, 2) * 0.4 + 3)
        found = clipped(centred(centers, sides), image)
        found = torch.cat([found, found[: count // 4]])
        boxes.append(found[(found[:, 2:] - found[:, :2] > 1e-5).all(1)])
    numbers = torch.tensor([len(found) for found in boxes])
    boxes = torch.cat(boxes)
    return Objects(
        boxes=boxes,
        areas=Boxes(boxes).area().double(),
        image_idxs=torch.arange(len(counts)).repeat_interleave(numbers),
        annotation_ids=list(range(len(boxes))),
        image_sizes=image_sizes,
        file_names=[f"{i}.png" for i in range(len(counts))],
        num_crowds=0,
        num_empty=0,
    )


def config_of(name, **rule):
    rule = {"thresholds": [0.4, 0.5], "labels": [0, -1, 1], "low_quality_matches": "none", **rule}
    return AnchorConfig(SHAPES, True, lambda shapes: GENERATORS[name], 32, MatchRule(**rule))


def grids_of(name, objects):
    return AnchorGrids.of(config_of(name), SHAPES, objects.image_sizes)


def images(objects, grids):
    """Yield each image's boxes and all its anchors."""
    for i in range(len(objects.image_sizes)):
        features = [torch.empty(1, 1, *size) for size in grids.of_image(i)]
        yield objects.boxes[objects.image_idxs == i], Boxes.cat(grids.generator(features))


@pytest.mark.parametrize("name", GENERATORS)
def test_best_ious_are_those_of_all_anchors_whatever_the_chunks(name, monkeypatch):
    objects = random_objects([30, 0, 12, 40, 1])
    grids = grids_of(name, objects)
    best = best_ious(objects, grids)
    pairs = images(objects, grids)
    dense = torch.cat([pairwise_iou(Boxes(boxes), anchors).amax(1) for boxes, anchors in pairs])
    torch.testing.assert_close(best.float(), dense, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(fit_module, "_PAIRS_PER_CHUNK", 100)
    assert torch.equal(best_ious(objects, grids), best)


@pytest.mark.parametrize("mode", LOW_QUALITY_MATCHES)
@pytest.mark.parametrize("name", GENERATORS)
def test_unmatched_objects_are_those_that_the_assigner_of_training_leaves_out(name, mode):
    # Crowds of small and equal objects, which take anchors from each other.
    objects = random_objects([60, 3, 25, 120, 1, 0, 40, 2, 80], seed=1)
    config = config_of(name, low_quality_matches=mode)
    fit = measure_fit(objects, config, objects.sample_images(9, seed=0))
    assigner = AnchorAssigner(num_classes=1, backend="reference", **dataclasses.asdict(config.rule))
    expected = []
    for boxes, anchors in images(objects, grids_of(name, objects)):
        classes = torch.zeros(len(boxes)).long()
        instances = Instances((1, 1), gt_boxes=Boxes(boxes), gt_classes=classes)
        expected.append(int(assigner(anchors.tensor, [instances]).num_unmatched))
    found = objects.image_idxs[fit.unmatched].bincount(minlength=9)
    assert found.tolist() == expected
    assert 0 < int(fit.unmatched.sum()) < len(objects)
    assert fit.is_labelled.all()


def test_only_the_sampled_images_are_labelled():
    objects = random_objects([2, 0, 3, 1, 4, 0, 5])
    assert objects.sample_images(5, seed=0).tolist() == [0, 2, 3, 4, 6]
    sample = objects.sample_images(3, seed=0)
    assert sample.tolist() == objects.sample_images(3, seed=0).tolist()
    assert len({tuple(objects.sample_images(3, seed).tolist()) for seed in range(9)}) > 1
    config = config_of("octave", thresholds=[0.99], labels=[0, 1])
    fit = measure_fit(objects, config, sample)
    assert fit.is_labelled.tolist() == [i in sample.tolist() for i in objects.image_idxs.tolist()]
    assert torch.equal(fit.unmatched, fit.is_labelled)


def test_a_fit_is_no_worse_only_if_it_is_so_in_every_respect():
    ious = torch.tensor([0.5, 0.49, 0.7, 0.1], dtype=torch.float64)
    assert scores(ious, 0.5).tolist() == pytest.approx([0.5, 0.25, 0.4475])
    masks = torch.ones(4).bool(), torch.tensor([False, False, False, True])
    fit = AnchorFit(SHAPES, ious, *masks, masks[1])
    assert is_no_worse(fit, fit, 0.5)
    for other in (
        fit._replace(ious=ious.clone().index_fill_(0, torch.tensor(0), 0.49)),
        fit._replace(ious=ious.clone().index_fill_(0, torch.tensor(2), 0.59)),
        fit._replace(unmatched=masks[0]),
    ):
        assert is_no_worse(fit, other, 0.5)
        assert not is_no_worse(other, fit, 0.5)
