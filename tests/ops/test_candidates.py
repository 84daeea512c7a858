"""Candidates are those of Detectron2's own selection."""

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from detectron2.structures import Boxes
from helpers.loss_cases import both_layouts, every_dtype

from focal_retina.ops.candidates import select_candidates, softmax_log_odds

backends = pytest.mark.parametrize("backend", ["reference", "torch"])


class Detector:
    box2box_transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))


def detectron2_candidates(logits, num_classes, score_thresh, topk):
    """What Detectron2 selects, anchors told apart by their boxes."""
    scores = permute_to_N_HWA_K(logits[None].float().contiguous(), num_classes)[0].sigmoid()
    idxs = torch.arange(len(scores), dtype=torch.float32)
    anchors = Boxes(torch.stack([idxs, idxs, idxs + 1, idxs + 1], dim=1))
    deltas = torch.zeros(len(scores), 4)
    result = DenseDetector._decode_per_level_predictions(
        Detector, anchors, scores, deltas, score_thresh, topk, (1, 1)
    )
    return result.scores, result.pred_boxes.tensor[:, 0].long(), result.pred_classes


def random_map(channels, height, width, layout=torch.contiguous_format, mean=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, channels, height, width, generator=generator) + mean
    return maps.contiguous(memory_format=layout)[1]


def assert_selects_as_detectron2(logits, num_classes, score_thresh, topk, backend):
    before = logits.clone()
    result = select_candidates(
        logits, num_classes=num_classes, score_thresh=score_thresh, topk=topk, backend=backend
    )
    expected = detectron2_candidates(logits, num_classes, score_thresh, topk)
    # One unit in the last place: ATen rounds the last elements of a map differently.
    torch.testing.assert_close(result[0], expected[0], rtol=2e-7, atol=0)
    assert all(a.equal(b) for a, b in zip(result[1:], expected[1:], strict=True))
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)
    return len(result[0])


@both_layouts
@backends
@every_dtype
@pytest.mark.parametrize(
    ("mean", "topk", "expected"),
    [(-12.0, 100, 0), (-5.5, 100, 65), (-4.5, 100, 100), (-4.5, 1, 1)],
)
def test_candidates_equal_detectron2(backend, layout, dtype, mean, topk, expected):
    logits = random_map(60, 12, 17, layout, mean).to(dtype)
    count = assert_selects_as_detectron2(logits, 20, 0.05, topk, backend)
    assert count == pytest.approx(expected, abs=5)


@both_layouts
@backends
@pytest.mark.parametrize(
    ("num_classes", "size", "mean", "topk", "expected"),
    [
        (20, (30, 40), -3.0, 100, 100),
        (20, (30, 40), 3.0, 100, 100),
        (20, (6, 6), 30.0, 10, 10),  # every float32 score is 1
        (1, (5, 7), -4.0, 1000, 64),
        (2, (5, 7), -4.0, 1000, 83),
        (1203, (5, 7), -4.0, 1000, 1000),
    ],
)
def test_any_number_of_candidates_and_classes(
    backend, layout, num_classes, size, mean, topk, expected
):
    logits = random_map(9 * num_classes, *size, layout, mean)
    assert assert_selects_as_detectron2(logits, num_classes, 0.05, topk, backend) == expected


@both_layouts
@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.bfloat16, 1), (torch.float16, 1), (torch.float32, 100)]
)
def test_only_ties_can_differ_where_nearly_all_logits_are_candidates(layout, dtype, scale):
    logits = (random_map(180, 30, 40, layout) * scale).to(dtype)
    scores, anchor_idxs, class_idxs = select_candidates(
        logits, num_classes=20, score_thresh=0.05, topk=100, backend="torch"
    )
    expected = detectron2_candidates(logits, 20, 0.05, 100)[0]
    torch.testing.assert_close(scores, expected, rtol=2e-7, atol=0)
    selected = permute_to_N_HWA_K(logits[None], 20)[0][anchor_idxs, class_idxs]
    torch.testing.assert_close(selected.float().sigmoid(), scores, rtol=2e-7, atol=0)
    assert len(set(zip(anchor_idxs.tolist(), class_idxs.tolist(), strict=True))) == 100


@both_layouts
def test_the_reference_resolves_even_these_ties_as_detectron2_and_torch_does_not(layout):
    logits = random_map(180, 30, 40, layout).to(torch.bfloat16)
    arguments = {"num_classes": 20, "score_thresh": 0.05, "topk": 100}
    selected = {
        backend: torch.stack(select_candidates(logits, backend=backend, **arguments)[1:])
        for backend in ("reference", "torch")
    }
    expected = torch.stack(detectron2_candidates(logits, **arguments)[1:])
    assert selected["reference"].equal(expected)
    assert not selected["torch"].equal(expected)


@backends
@pytest.mark.parametrize(
    ("score_thresh", "expected"), [(-1.0, 120), (0.0, 117), (0.5, 59), (1.0, 0), (2.0, 0)]
)
def test_any_threshold_is_that_of_detectron2(backend, score_thresh, expected):
    logits = random_map(10, 3, 4)
    logits[0, 0, :3] = torch.tensor([-1e4, -torch.inf, -200.0])
    logits[1, 0, :2] = torch.tensor([1e4, torch.inf])
    count = assert_selects_as_detectron2(logits, 5, score_thresh, 1000, backend)
    assert count == pytest.approx(expected, abs=4)


@backends
def test_score_equal_to_the_threshold_is_not_selected(backend):
    logits = torch.zeros(2, 3, 3)
    logits[1, 1, 1] = 1e-6
    assert assert_selects_as_detectron2(logits, 2, 0.5, 10, backend) == 1


@backends
@pytest.mark.parametrize("topk", [10, 100])
def test_equal_logits_are_resolved_as_by_detectron2(backend, topk):
    logits = random_map(12, 5, 5).round()
    assert assert_selects_as_detectron2(logits, 4, 0.3, topk, backend) == topk


@both_layouts
@backends
@pytest.mark.parametrize("seed", range(4))
def test_scores_have_the_bits_of_a_whole_map(backend, layout, seed):
    logits = random_map(80, 16, 16, layout, mean=-4, seed=seed)  # a multiple of vectors' lengths
    arguments = {"num_classes": 20, "score_thresh": 0.05, "topk": 5000}
    scores = select_candidates(logits, backend=backend, **arguments)[0]
    assert scores.equal(detectron2_candidates(logits, **arguments)[0])


@both_layouts
@backends
def test_nan_is_never_selected_and_hides_nothing(backend, layout):
    logits = random_map(180, 30, 40, layout)
    logits[::20] = torch.nan
    assert assert_selects_as_detectron2(logits, 20, 0.05, 100, backend) == 100
    logits[:] = torch.nan
    assert assert_selects_as_detectron2(logits, 20, 0.05, 100, backend) == 0


def test_logits_that_do_not_hold_whole_anchors_are_refused():
    with pytest.raises(ValueError, match=r"logits has shape \(9, 2, 2\); give \(A \* 2, H, W\)"):
        select_candidates(torch.zeros(9, 2, 2), num_classes=2, score_thresh=0.05, topk=10)


@pytest.mark.parametrize("spread", [1, 20, 1e4])
def test_the_sigmoid_of_log_odds_is_the_softmax_for_scores_near_0_and_1_too(spread):
    logits = torch.randn(1, 12, 5, 7, generator=torch.Generator().manual_seed(3)) * spread
    expected = logits.double().unflatten(1, (-1, 4)).softmax(2)[:, :, :3].flatten(1, 2)
    found = softmax_log_odds(logits, 3).sigmoid()
    torch.testing.assert_close(found, expected.float(), rtol=2e-5, atol=1e-37)
