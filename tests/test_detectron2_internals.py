"""The private names that we lean on still mean what they meant."""

import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.utils.events import EventStorage
from torch import nn

from focal_retina.detectron2_internals import (
    BatchNorm,
    Dropout,
    gradient_norms,
    grid_anchors,
    next_batch,
    num_pending_images,
)


def test_layers_that_behave_in_another_way_in_training_have_one_class():
    assert issubclass(nn.BatchNorm2d, BatchNorm) and issubclass(nn.SyncBatchNorm, BatchNorm)
    assert issubclass(nn.Dropout, Dropout) and issubclass(nn.Dropout2d, Dropout)
    assert not issubclass(nn.GroupNorm, BatchNorm)


def test_a_trainer_gives_its_next_batch():
    model = nn.Linear(1, 1)
    trainer = SimpleTrainer(model, [1, 2], torch.optim.SGD(model.parameters(), 0.1))
    assert [next_batch(trainer), next_batch(trainer)] == [1, 2]


def test_pictures_that_no_writer_has_taken_are_counted():
    storage = EventStorage()
    storage.put_image("a", torch.zeros(3, 4, 4).numpy())
    assert num_pending_images(storage) == 1
    storage.clear_images()
    assert num_pending_images(storage) == 0


def test_norms_of_gradients_are_euclidean():
    assert gradient_norms([torch.tensor([3.0, 4.0]), torch.ones(2, 2)]).tolist() == [5, 2]


def test_anchors_of_grid_sizes_are_those_of_features_of_these_sizes():
    generator = DefaultAnchorGenerator(sizes=[[32], [64]], aspect_ratios=[[1.0]], strides=[8, 16])
    expected = generator([torch.zeros(1, 1, 4, 6), torch.zeros(1, 1, 2, 3)])
    for found, boxes in zip(grid_anchors(generator, [(4, 6), (2, 3)]), expected, strict=True):
        assert torch.equal(found, boxes.tensor)
