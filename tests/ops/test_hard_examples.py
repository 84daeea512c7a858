"""OHEM keeps exactly the anchors that a plain statement of the rule keeps."""

import random

import pytest
import torch

from focal_retina.ops.hard_examples import hard_examples


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height)


def plain_rule(losses, boxes, is_foreground, batch_size, nms_thresh, one_to_three):
    """The rule of the docstring, in plain Python."""
    left = []
    for i in sorted(range(len(losses)), key=lambda i: (-losses[i], i)):
        if all(iou(boxes[i], boxes[j]) <= nms_thresh for j in left):
            left.append(i)
    if not one_to_three:
        return left[:batch_size]
    foreground = [i for i in left if is_foreground[i]][: max(1, batch_size // 4)]
    background = [i for i in left if not is_foreground[i]][: 3 * max(1, len(foreground))]
    return [i for i in left if i in foreground or i in background]


def random_case(generator):
    """Whole coordinates and few different losses: ties, and IoU without rounding."""
    count = generator.choice([0, 1, 2, 5, 20, 60])
    corners = [(generator.randint(0, 12), generator.randint(0, 12)) for _ in range(count)]
    boxes = [(x, y, x + generator.randint(1, 8), y + generator.randint(1, 8)) for x, y in corners]
    losses = [float(generator.randint(0, 30)) for _ in range(count)]
    share = generator.choice([0, 0.1, 0.5, 1])
    is_foreground = [generator.random() < share for _ in range(count)]
    return losses, boxes, is_foreground


def assert_keeps_as_the_plain_rule(losses, boxes, is_foreground, *rule):
    names = ("batch_size", "nms_thresh", "one_to_three")
    kept = hard_examples(
        torch.tensor(losses),
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(is_foreground, dtype=torch.bool),
        **dict(zip(names, rule, strict=True)),
    )
    assert kept.tolist() == plain_rule(losses, boxes, is_foreground, *rule), (losses, boxes, rule)


@pytest.mark.parametrize("one_to_three", [False, True])
def test_thousands_of_random_inputs_agree_with_the_plain_rule(one_to_three):
    generator = random.Random(0)
    for _ in range(2000):
        case = random_case(generator)
        rule = generator.choice([1, 2, 4, 9]), generator.choice([0, 0.5, 0.7, 1])
        assert_keeps_as_the_plain_rule(*case, *rule, one_to_three)


@pytest.mark.parametrize("one_to_three", [False, True])
def test_many_anchors_on_one_place_do_not_hide_those_of_low_loss(one_to_three):
    # The prefix that is tried first holds one survivor, and its last anchor is the foreground.
    boxes = [(x, x, x + 10, x + 10) for x in [0] * 400 + [20 * i for i in range(100)]]
    losses = [float(loss) for loss in range(500, 0, -1)]
    assert_keeps_as_the_plain_rule(losses, boxes, [False] * 499 + [True], 4, 0.5, one_to_three)
