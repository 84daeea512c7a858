"""A part refuses what is beyond a limit, by the names of argument and key, and takes the limit."""

from functools import partial
from pathlib import Path

import pytest
import yaml
from detectron2.layers import ShapeSpec
from helpers.small_models import tiny_model

from focal_retina import FocalRetinaHead
from focal_retina.errors import UserError
from focal_retina.modeling import anchors, classification
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.selection import HardExampleSelection

HEAD = {"input_shape": [ShapeSpec(channels=16)] * 2, "num_classes": 5, "num_anchors": 9}
ANCHORS = {"base_sizes": [[32], [64]], "strides": [8, 16]}
LOSSES = ("SigmoidFocalLoss", "SigmoidFocalLossStar", "HingeLoss", "SoftmaxFocalLoss")
BUILD = {
    "FocalRetinaHead": lambda **arguments: FocalRetinaHead(**HEAD | arguments),
    "FocalRetinaNet": lambda **keys: tiny_model(keys),
    "HardExampleSelection": HardExampleSelection,
    "LossNormalizer": LossNormalizer,
    "OctaveAnchorGenerator": partial(anchors.OctaveAnchorGenerator, **ANCHORS),
    "TorchvisionAnchorGenerator": partial(anchors.TorchvisionAnchorGenerator, **ANCHORS),
    **{name: partial(getattr(classification, name), num_classes=3) for name in LOSSES},
}
LIMITS = yaml.safe_load(Path(__file__).with_name("limits.yaml").read_text())


@pytest.mark.parametrize(
    ("name", "refused", "taken", "culprit"),
    [(name, *row) for name, rows in LIMITS.items() for row in rows],
)
def test_what_is_beyond_a_limit_is_refused_and_the_limit_is_taken(name, refused, taken, culprit):
    BUILD[name](**taken)
    with pytest.raises(UserError, match=culprit):
        BUILD[name](**refused)
