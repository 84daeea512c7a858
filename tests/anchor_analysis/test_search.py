"""Proposals: never worse than the config, the same from the same seed, of the number asked for."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_jobs import ROOT, catalogs_restored

from focal_retina.anchor_analysis.anchor_config import AnchorConfig
from focal_retina.anchor_analysis.fit import is_no_worse, measure_fit
from focal_retina.anchor_analysis.objects import load_objects
from focal_retina.anchor_analysis.search import propose, starting_shapes
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.data.register import register_datasets
from focal_retina.data.shapes import write_shapes
from focal_retina.errors import UserError
from focal_retina.settings.yaml_config import load_yaml

BCCD = f"{os.environ.get('DETECTRON2_DATASETS', 'datasets')}/bccd"
SMALL = {"max_objects": 200, "generations": 3, "seed": 0}


def config_of(config_file, *opts):
    small = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    return AnchorConfig.of(load_yaml(f"{ROOT}/configs/{config_file}", [*small, *opts]))


@pytest.fixture(scope="module")
def config():
    return config_of("Base-FocalRetinaNet-paper.yaml")


def objects_of(json_file, image_root, side):
    np.random.seed(0)
    with catalogs_restored():
        register_datasets([["analyzed", str(json_file), str(image_root)]])
        return load_objects(["analyzed"], ResizeShortestEdge([side, side], 1333))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = write_shapes(tmp_path_factory.mktemp("shapes"), "train", 60)
    return objects_of(folder / "instances.json", folder / "images", 160)


def measure(objects, config, shapes=None):
    return measure_fit(objects, config, objects.sample_images(1000, seed=0), shapes)


def search(objects, config, num_starts=None, **options):
    """Return the fit of the config's anchors and of the proposed ones."""
    configured, starts = measure(objects, config), starting_shapes(config)[:num_starts]
    return configured, propose(objects, config, configured, starts, **{**SMALL, **options})


def assert_no_worse(objects, config):
    """Return the fit of the config's anchors and of the proposed ones."""
    # All objects, and one start only: what the search sees is what counts.
    configured, found = search(objects, config, 1, max_objects=len(objects), generations=4)
    assert is_no_worse(found, configured, config.foreground_threshold)
    # The values are what they are said to be, and so is the number of anchors.
    again = measure(objects, config, found.shapes)
    assert torch.equal(again.ious, found.ious)
    counts = [config.build_generator(x.shapes).num_anchors for x in (configured, found)]
    assert counts[0] == counts[1]
    return configured, found


def test_the_proposal_for_shapes_is_better_than_the_demo_s_anchors(shapes):
    config = config_of("shapes_focal_retinanet_R_18_FPN_demo.yaml")
    configured, found = assert_no_worse(shapes, config)
    assert not is_no_worse(configured, found, config.foreground_threshold)


@pytest.mark.skipif(not os.path.isdir(BCCD), reason="DETECTRON2_DATASETS holds no BCCD")
def test_the_proposal_for_blood_cells_is_no_worse_than_the_paper_s_anchors(config):
    json_file = f"{BCCD}/annotations/instances_train.json"
    assert_no_worse(objects_of(json_file, f"{BCCD}/images", 800), config)


def test_the_same_seed_gives_the_same_proposal(shapes, config):
    (configured, first), (_, second) = (search(shapes, config, 1) for _ in range(2))
    assert first.shapes == second.shapes != configured.shapes


def test_where_nothing_is_better_the_config_s_own_anchors_are_returned(shapes, config):
    # Objects that are anchors.
    anchors = torch.cat(list(config.build_generator(config.shapes).cell_anchors)[:3])
    count = len(anchors)
    objects = replace(
        shapes,
        boxes=anchors + torch.where(torch.arange(count)[:, None] < 9, 388.0, 392.0),
        areas=torch.ones(count).double(),
        image_idxs=torch.arange(count),
        annotation_ids=list(range(count)),
        image_sizes=torch.full((count, 2), 800),
    )
    configured, found = search(objects, config)
    assert found is configured


def test_the_search_stays_no_worse_than_the_config_when_it_sees_few_objects(shapes, config):
    configured, found = search(shapes, config, max_objects=2)
    assert is_no_worse(found, configured, config.foreground_threshold)


def test_starts_have_the_config_s_number_of_anchors_unless_told_otherwise(config):
    pairs = [(x.scales_per_octave, len(x.aspect_ratios[0])) for x in starting_shapes(config)]
    assert pairs == [(3, 3), (1, 9), (9, 1)]
    [told] = starting_shapes(config, 2)
    assert (told.scales_per_octave, len(told.aspect_ratios[0])) == (2, 3)
    [told] = starting_shapes(config, 1, 1)
    assert config.build_generator(told).num_anchors == [1] * 5


def test_numbers_are_refused_for_anchors_without_octaves():
    opts = ["MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"]
    plain = config_of("Base-FocalRetinaNet-paper.yaml", *opts)
    assert starting_shapes(plain) == [plain.shapes]
    with pytest.raises(UserError, match="OctaveAnchorGenerator"):
        starting_shapes(plain, 2)
