"""The sparse path against Detectron2's matcher on random images, and its cost."""

import time
from functools import partial

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from helpers import matching_cases as cases

from experiments.benchmark.peak_memory import peak_memory
from focal_retina.ops.matching import sparse
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors, match_dense
from focal_retina.ops.matching.rule import LOW_QUALITY_MATCHES, MatchRule

RULES = [
    ([0.4, 0.5], [0, -1, 1]),
    ([0.3, 0.7], [0, -1, 1]),
    ([0.5], [0, 1]),
    ([0.01, 0.2, 0.3], [-1, 0, -1, 1]),
    ([0.5, 0.5], [0, -1, 1]),
]
DETECTRON2_RULE = MatchRule((0.4, 0.5), (0, -1, 1), "detectron2")


# Small operations: a second thread would mostly wait.
pytestmark = pytest.mark.usefixtures("one_thread")


def assert_equals_detectron2(generator, image, count, kind, thresholds, labels):
    anchors, lattice = cases.anchors_and_lattice(generator, *image.flip(0).tolist())
    gt_boxes = kind(count, image, anchors)
    references = cases.detectron2_matches(anchors, gt_boxes, thresholds, labels)
    for mode, (expected, expected_labels, is_defined) in references.items():
        rule = MatchRule(thresholds, labels, mode)
        matches, match_labels = match_anchors(
            anchors, gt_boxes, rule, lattice=lattice, backend="torch"
        )
        assert match_labels.equal(expected_labels)
        assert matches[is_defined].equal(expected[is_defined])
        assert ((matches >= 0) & (matches < count)).all()


# 4 x 12 x 105 = 5,040 images.
@cases.box_kinds
@pytest.mark.parametrize("generator", cases.GENERATORS.values(), ids=cases.GENERATORS)
def test_labels_equal_detectron2_on_random_images(generator, kind):
    for seed in range(105):
        torch.manual_seed(seed)
        image = torch.randint(8, 160, (2,))
        assert_equals_detectron2(generator, image, 1 + seed % 12, kind, *RULES[seed % len(RULES)])


@cases.box_kinds
def test_labels_equal_detectron2_on_a_large_image(kind):
    torch.manual_seed(0)
    image = torch.tensor([1333, 800])
    assert_equals_detectron2(cases.retinanet_generator(), image, 6, kind, *RULES[0])


@cases.box_kinds
def test_labels_are_exact_for_anchors_moved_by_rounding(kind):
    exact, lattice = cases.anchors_and_lattice(cases.retinanet_generator(), 90, 130)
    for seed in range(20):
        torch.manual_seed(seed)
        anchors = exact + (torch.rand_like(exact) - 0.5) * 0.008  # as in one of 32,768 pixels
        gt_boxes = kind(10, torch.tensor([130, 90]), anchors)
        found = sparse.match_sparse(anchors, gt_boxes, DETECTRON2_RULE, lattice)[1]
        assert found.equal(match_dense(anchors, gt_boxes, DETECTRON2_RULE)[1])


def test_best_of_rounded_anchors_is_found_where_that_of_exact_anchors_is_another():
    # A narrow and a wide row end at x = 808, the narrow object begins just before.
    generator = DefaultAnchorGenerator(
        sizes=[[16.0], [80.0]], aspect_ratios=[[1.0], [0.04]], strides=[8, 8], offset=0.0
    )
    sizes = [(1, 101), (1, 77)]
    anchors, lattice = cases.all_anchors(generator, sizes), AnchorLattice.of(generator, sizes)
    gt_boxes = torch.tensor([[807.9995, -8.0, 808.5, 8.0]])
    for idx, moves in ((100, [0, 0]), (177, [-0.0004, 0.004])):
        anchors[[100, 177], 2] += torch.tensor(moves)
        found = sparse.match_sparse(anchors, gt_boxes, DETECTRON2_RULE, lattice)[1]
        assert found.nonzero().flatten().tolist() == [idx]


def crowd(count, height=800, width=1333):
    torch.manual_seed(0)
    anchors, lattice = cases.anchors_and_lattice(cases.retinanet_generator(), height, width)
    centers = torch.rand(count, 2) * torch.tensor([width, height])
    sides = torch.exp(torch.randn(count, 2) * 0.5 + torch.randn(count, 1) + 4)
    return anchors, cases.centred(centers, sides), lattice


@pytest.mark.parametrize("mode", LOW_QUALITY_MATCHES)
def test_result_does_not_depend_on_chunks(mode, monkeypatch):
    anchors, gt_boxes, lattice = crowd(60, 300, 400)
    rule = MatchRule((0.4, 0.5), (0, -1, 1), mode)
    whole = sparse.match_sparse(anchors, gt_boxes, rule, lattice)
    monkeypatch.setattr(sparse, "_PAIRS_PER_CHUNK", 100)
    chunked = sparse.match_sparse(anchors, gt_boxes, rule, lattice)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=0)


@pytest.mark.parametrize(("count", "backend"), [(5000, "torch"), (300, "reference")])
def test_memory_does_not_grow_with_objects_times_anchors(count, backend):
    anchors, gt_boxes, lattice = crowd(count)
    match = partial(match_anchors, anchors, gt_boxes, DETECTRON2_RULE, lattice=lattice)
    assert peak_memory(partial(match, backend=backend), torch.device("cpu")) < 200


def test_sparse_is_several_times_faster_than_dense():
    anchors, gt_boxes, lattice = crowd(40)
    seconds = {"reference": [], "torch": []}
    for backend in list(seconds) * 3:
        start = time.perf_counter()
        match_anchors(anchors, gt_boxes, DETECTRON2_RULE, lattice=lattice, backend=backend)
        seconds[backend].append(time.perf_counter() - start)
    assert min(seconds["torch"]) * 5 < min(seconds["reference"])
