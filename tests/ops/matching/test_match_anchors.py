"""The rules of matching, on both backends, and the lattice."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from helpers import matching_cases as cases

from focal_retina.errors import UserError
from focal_retina.modeling.anchors import OctaveAnchorGenerator
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors, match_dense
from focal_retina.ops.matching.rule import LOW_QUALITY_MATCHES, MatchRule

# One square anchor of 32 px on every 8 px, first centre at 0: 8 x 8 cells.
GENERATOR = DefaultAnchorGenerator(sizes=[[32.0]], aspect_ratios=[[1.0]], strides=[8], offset=0.0)
SIZES = [(8, 8)]
FAR_AWAY = torch.tensor([[5000.0, 5000.0, 5050.0, 5050.0]])

backends = pytest.mark.parametrize("backend", ["reference", "torch"])
modes = pytest.mark.parametrize("mode", LOW_QUALITY_MATCHES)


def match(gt_boxes, mode, backend, labels=(0, -1, 1), **changes):
    arguments = {
        "anchors": cases.all_anchors(GENERATOR, SIZES),
        "gt_boxes": torch.as_tensor(gt_boxes),
        "rule": MatchRule((0.4, 0.5), labels, mode),
        "lattice": AnchorLattice.of(GENERATOR, SIZES),
        "backend": backend,
        **changes,
    }
    return match_anchors(**arguments)


@modes
@backends
def test_no_object_gives_every_anchor_the_lowest_label(backend, mode):
    matches, match_labels = match(torch.empty(0, 4), mode, backend, labels=(-1, 0, 1))
    assert matches.tolist() == [0] * 64 and matches.dtype == torch.int64
    assert match_labels.tolist() == [-1] * 64 and match_labels.dtype == torch.int8


@modes
@backends
@pytest.mark.parametrize("others", [torch.empty(0, 4), torch.tensor([[3.0, 3.0, 40.0, 40.0]])])
def test_object_without_overlap_makes_no_anchor_foreground(backend, mode, others):
    expected = match(others, mode, backend)[1]
    assert match(torch.cat([others, FAR_AWAY]), mode, backend)[1].equal(expected)


def test_object_without_overlap_makes_every_anchor_foreground_in_detectron2():
    ious = pairwise_iou(Boxes(FAR_AWAY), Boxes(cases.all_anchors(GENERATOR, SIZES)))
    assert Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)(ious)[1].eq(1).all()


# 4 px wide: within four anchors of row 3, all of IoU .125.
TIE = [26.0, 8.0, 30.0, 40.0]
# IoU .45, to be ignored, with the anchor centred at (0, 0), less than .4 with any other.
IGNORED = [-16.0, -16.0, 16.0, -1.6]


@backends
@pytest.mark.parametrize(
    ("box", "mode", "expected"),
    [
        (TIE, "none", {}),
        (TIE, "detectron1", {}),
        (TIE, "detectron2", {26: 1, 27: 1, 28: 1, 29: 1}),
        (IGNORED, "none", {0: -1}),
        (IGNORED, "detectron1", {0: 1}),
        (IGNORED, "detectron2", {0: 1}),
    ],
)
def test_the_best_anchors_of_an_object_become_foreground(backend, box, mode, expected):
    match_labels = match([box], mode, backend)[1].tolist()
    assert {i: label for i, label in enumerate(match_labels) if label} == expected


# An anchor's box, twice.
EQUAL = [*FAR_AWAY.tolist(), [8.0, 8.0, 40.0, 40.0], [8.0, 8.0, 40.0, 40.0]]
# Both have their best anchor at cell (0, 0), which the second overlaps more.
NESTED = [[-16.0, -16.0, -12.0, -12.0], [-16.0, -16.0, -8.0, -8.0]]


@backends
@pytest.mark.parametrize(("boxes", "expected"), [(EQUAL, [19, 26, 27, 28, 35]), (NESTED, [0])])
def test_anchors_are_matched_with_their_best_object_and_the_first_of_equal_ones(
    backend, boxes, expected
):
    matches, match_labels = match(boxes, "detectron2", backend)
    assert (match_labels == 1).nonzero().flatten().tolist() == expected
    assert set(matches[expected].tolist()) == {1}


@cases.box_kinds
@pytest.mark.parametrize("generator", cases.GENERATORS.values(), ids=cases.GENERATORS)
def test_reference_and_labels_of_any_order_equal_detectron2(generator, kind):
    torch.manual_seed(0)
    anchors, lattice = cases.anchors_and_lattice(generator, 100, 150)
    gt_boxes = kind(9, torch.tensor([150, 100]), anchors)
    overlaps = pairwise_iou(Boxes(gt_boxes), Boxes(anchors)).amax(0) > 0
    for labels, backend in (([0, -1, 1], "reference"), ([1, -1, 0], "torch")):
        references = cases.detectron2_matches(anchors, gt_boxes, [0.4, 0.5], labels)
        for mode, (expected, expected_labels, _) in references.items():
            rule = MatchRule((0.4, 0.5), labels, mode)
            matches, match_labels = match_anchors(
                anchors, gt_boxes, rule, lattice=lattice, backend=backend
            )
            assert match_labels.equal(expected_labels)
            assert matches[overlaps].equal(expected[overlaps])
            assert matches[~overlaps].eq(0).all()


@modes
@pytest.mark.parametrize("pairs_per_chunk", [1, 200, 1 << 30])
def test_dense_result_does_not_depend_on_chunks(mode, pairs_per_chunk):
    torch.manual_seed(0)
    anchors = cases.all_anchors(GENERATOR, SIZES)
    gt_boxes = cases.duplicate(20, torch.tensor([64, 64]), anchors)
    rule = MatchRule((0.4, 0.5), (0, -1, 1), mode)
    expected = match_dense(anchors, gt_boxes, rule)
    chunked = match_dense(anchors, gt_boxes, rule, pairs_per_chunk=pairs_per_chunk)
    torch.testing.assert_close(chunked, expected, rtol=0, atol=0)


class MovedAnchorGenerator(OctaveAnchorGenerator):
    def forward(self, features):
        return [Boxes(boxes.tensor + 3) for boxes in super().forward(features)]


def test_anchors_of_a_generator_that_does_not_declare_a_lattice_are_matched_densely():
    generator = MovedAnchorGenerator(
        base_sizes=[32], scales_per_octave=1, aspect_ratios=[1.0], strides=[8]
    )
    lattice = AnchorLattice.of(generator, SIZES)
    assert lattice is None
    anchors = cases.all_anchors(generator, SIZES)
    match_labels = match(anchors[9:10], "none", "torch", anchors=anchors, lattice=lattice)[1]
    assert match_labels[9] == 1


@pytest.mark.parametrize(
    "generator",
    [
        *cases.GENERATORS.values(),
        OctaveAnchorGenerator(base_sizes=[[16], [32]], strides=[4, 8], round_sides=True),
    ],
    ids=[*cases.GENERATORS, "octaves"],
)
def test_lattice_says_where_each_anchor_lies(generator):
    anchors, lattice = cases.anchors_and_lattice(generator, 90, 130)
    assert lattice.num_anchors == len(anchors)
    seen = []
    for row, first_anchor in enumerate(lattice.first_anchors):
        width, height = lattice.grid_sizes[:, row].tolist()
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        idxs = lattice.first_indices[row] + (y * width + x) * lattice.index_steps[row]
        shifts = torch.stack([x, y, x, y], dim=-1) * lattice.strides[row]
        torch.testing.assert_close(anchors[idxs].double(), first_anchor + shifts, rtol=0, atol=1e-4)
        seen.append(idxs.flatten())
    assert torch.cat(seen).sort().values.equal(torch.arange(len(anchors)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": torch.zeros(64, 4, dtype=torch.bfloat16)}, "anchors is torch.bfloat16"),
        ({"gt_boxes": torch.zeros(3, 5)}, r"gt_boxes is torch.float32 of shape \(3, 5\)"),
        ({"lattice": AnchorLattice.of(GENERATOR, [(4, 4)])}, "the lattice has 16 anchors"),
        ({"backend": "cuda"}, "backend 'cuda'"),
    ],
)
def test_unusable_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        match(**{"gt_boxes": torch.zeros(1, 4), "mode": "none", "backend": "torch", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": (0.5, 0.4)}, r"thresholds \(MODEL.RETINANET.IOU_THRESHOLDS, .*\) is"),
        ({"thresholds": (0.0, 0.4)}, r"thresholds \(MODEL.RETINANET.IOU_THRESHOLDS, .*\) is"),
        ({"thresholds": ()}, r"thresholds \(MODEL.RETINANET.IOU_THRESHOLDS, .*\) is"),
        ({"labels": (0, 1)}, r"labels \(MODEL.RETINANET.IOU_LABELS, .*\) is"),
        ({"labels": (0, 2, 1)}, r"labels \(MODEL.RETINANET.IOU_LABELS, .*\) is"),
        ({"low_quality_matches": "best"}, "LOW_QUALITY_MATCHES. is 'best'"),
    ],
)
def test_an_unusable_rule_names_the_argument_and_its_key(changes, message):
    usable = {"thresholds": (0.4, 0.5), "labels": (0, -1, 1), "low_quality_matches": "none"}
    with pytest.raises(UserError, match=message):
        MatchRule(**{**usable, **changes})
