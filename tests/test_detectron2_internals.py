"""Private names of others mean what this package takes them for."""

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from fvcore.common.registry import Registry

from focal_retina.detectron2_internals import OpenAnchorGenerator, registered_objects

CELL_ANCHORS = {"sizes": [[32.0]], "aspect_ratios": [[1.0]], "strides": [8]}


def test_a_registry_knows_its_objects_by_name_and_forgets_what_is_deleted():
    registry = Registry("TEST")
    registry.register(dict)
    assert registered_objects(registry) == {"dict": dict}
    del registered_objects(registry)["dict"]
    assert "dict" not in registry


def test_an_anchor_generator_places_anchors_by_its_public_step():
    class Moved(OpenAnchorGenerator):
        def grid_anchors(self, grid_sizes):
            return [anchors + 3 for anchors in super().grid_anchors(grid_sizes)]

    features = [torch.zeros(1, 1, 2, 3)]
    (expected,) = DefaultAnchorGenerator(**CELL_ANCHORS)(features)
    (found,) = OpenAnchorGenerator(**CELL_ANCHORS)(features)
    (moved,) = Moved(**CELL_ANCHORS)(features)
    assert torch.equal(found.tensor, expected.tensor)
    assert torch.equal(moved.tensor, expected.tensor + 3)
