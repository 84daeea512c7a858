"""Training batches are those of Detectron2, from any position, with any number of workers."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import build_detection_test_loader, build_detection_train_loader, samplers
from torch.utils.data import DataLoader, IterableDataset

from focal_retina.data.loader import TrainLoader, build_train_loader, exact_loader_config
from focal_retina.errors import UserError

SIZES = [(64, 48), (48, 64), (64, 64), (80, 64), (64, 80)]
RECORDS = [
    {"image_id": i, "width": w, "height": h, "annotations": [{"category_id": i % 3}]}
    for i, (w, h) in enumerate(SIZES * 4)
]
SAMPLERS = {
    "training": lambda: samplers.TrainingSampler(20, seed=5),
    "repeat": lambda: samplers.RepeatFactorTrainingSampler(torch.linspace(1, 2.5, 20), seed=5),
    "subset": lambda: samplers.RandomSubsetTrainingSampler(20, 0.5, seed_shuffle=5, seed_subset=6),
}


def draw():
    """Draw from each generator that augmentations use."""
    return random.random(), np.random.rand(), torch.rand(()).item()


def noisy(record):
    return {**record, "noise": draw()}


def loader(sampler="training", mapper=noisy, **options):
    arguments = {"total_batch_size": 3, "seed": 7, **options}
    return build_train_loader(RECORDS, mapper=mapper, sampler=SAMPLERS[sampler](), **arguments)


def ids(batches, count):
    return [[image["image_id"] for image in batch] for batch in islice(batches, count)]


def state_after(count, *sampler, **options):
    """Return the state of a loader that has given so many batches."""
    stopped = loader(*sampler, **options)
    list(islice(stopped, count))
    return stopped.state_dict()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("grouping", [True, False])
def test_the_batches_are_detectron2s(sampler, grouping):
    options = {"total_batch_size": 3, "aspect_ratio_grouping": grouping, "mapper": dict}
    theirs = build_detection_train_loader(RECORDS, sampler=SAMPLERS[sampler](), **options)
    ours = build_train_loader(RECORDS, sampler=SAMPLERS[sampler](), **options)
    assert ids(ours, 30) == ids(theirs, 30)


def test_any_number_of_workers_gives_the_same_bits():
    batches = [list(islice(loader(num_workers=n), 12)) for n in (0, 2, 3)]
    assert batches[0] == batches[1] == batches[2]


def test_the_same_image_is_augmented_anew_each_time():
    noises = [image["noise"] for batch in islice(loader(), 40) for image in batch]
    assert len(set(noises)) == len(noises)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_where_a_state_stood(sampler, workers):
    batches = list(islice(loader(sampler), 25))
    resumed = loader(sampler, num_workers=workers, seed=0)
    resumed.sampler._seed = 99
    resumed.load_state_dict(state_after(11, sampler))
    assert list(islice(resumed, 14)) == batches[11:]


def test_a_second_iterator_goes_on():
    batches = list(islice(loader(), 10))
    again = loader()
    assert [*islice(again, 4), *islice(again, 6)] == batches


def test_the_trainings_generators_are_left_alone():
    states = []
    for batches in (0, 5):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        list(islice(loader(), batches))
        states.append(draw())
    assert states[0] == states[1]


def rejecting(record):
    return None if record["image_id"] % 2 else noisy(record)


def test_an_image_that_the_mapper_rejects_is_replaced_alike_by_all_workers():
    batches = [list(islice(loader(mapper=rejecting, num_workers=n), 12)) for n in (0, 2)]
    assert batches[0] == batches[1]
    assert all(image["image_id"] % 2 == 0 for batch in batches[0] for image in batch)


def test_a_mapper_that_rejects_all_is_an_error():
    with pytest.raises(ValueError, match="None for every image"):
        next(iter(loader(mapper=lambda record: None)))


def test_one_image_makes_batches():
    only = build_train_loader(RECORDS[:1], mapper=None, total_batch_size=2)
    assert ids(only, 2) == [[0, 0], [0, 0]]


def test_other_data_start_anew_with_a_warning(caplog):
    other = build_train_loader(RECORDS[:7], mapper=dict, total_batch_size=3)
    other.load_state_dict(state_after(3))
    assert other.position == 0
    assert "(images 20, sampler TrainingSampler, " in caplog.text
    assert "; now images 7, sampler TrainingSampler, " in caplog.text


def test_another_batch_size_goes_on_after_as_many_images_with_a_warning(caplog):
    other = loader(total_batch_size=2)
    other.load_state_dict(state_after(4))
    assert other.position == 6
    assert "images of a process 3" in caplog.text and "not exactly" in caplog.text


def test_another_grouping_is_named_as_it_was_and_as_it_is(caplog):
    loader().load_state_dict(state_after(0, aspect_ratio_grouping=False))
    was, now = caplog.text.split("; now ")
    assert "grouped by aspect ratio False" in was
    assert "grouped by aspect ratio True" in now


class Stream(IterableDataset):
    def __iter__(self):
        yield from RECORDS


@pytest.mark.parametrize("dataset", [Stream(), [{"image_id": 0}]])
def test_data_without_positions_go_through_detectron2s_loader_with_a_warning(dataset, caplog):
    found = build_train_loader(dataset, mapper=dict, total_batch_size=1)
    assert not isinstance(found, TrainLoader)
    assert "a resumed run will start it anew" in caplog.text


@pytest.mark.parametrize(
    "target", [build_detection_train_loader, "detectron2.data.build_detection_train_loader"]
)
def test_a_lazy_config_with_detectron2s_loader_gets_the_exact_one(target):
    node = LazyCall(target)(dataset=LazyCall(RECORDS.copy)(), mapper=None, total_batch_size=2)
    assert isinstance(instantiate(exact_loader_config(node)), TrainLoader)


def test_a_lazy_config_keeps_a_loader_of_its_own():
    node = LazyCall(build_detection_test_loader)(dataset=RECORDS, mapper=None)
    assert isinstance(instantiate(exact_loader_config(node)), DataLoader)


def changed(**values):
    return [{"file_name": "a/1.jpg", **RECORDS[0]}, *RECORDS[1:19], {**RECORDS[19], **values}]


OTHER = [
    {"file_name": "b/2.jpg"},
    {"image_id": 99},
    {"annotations": []},
    {"annotations": [{"category_id": 2, "bbox": [0, 0, 5, 5]}]},
]


@pytest.mark.parametrize("values", OTHER, ids=str)
def test_as_many_images_of_another_set_start_anew_with_a_warning(values, caplog):
    first = build_train_loader(changed(), mapper=dict, total_batch_size=2)
    other = build_train_loader(changed(**values), mapper=dict, total_batch_size=2)
    list(islice(first, 3))
    other.load_state_dict(first.state_dict())
    assert other.position == 0
    assert "The checkpoint is of other training data (images 20, " in caplog.text


def test_the_same_images_in_another_folder_are_the_same_data(caplog):
    first = build_train_loader(changed(file_name="a/2.jpg"), mapper=dict, total_batch_size=2)
    moved = build_train_loader(changed(file_name="/b/2.jpg"), mapper=dict, total_batch_size=2)
    list(islice(first, 3))
    moved.load_state_dict(first.state_dict())
    assert moved.position == 3
    assert "other" not in caplog.text


def test_a_state_of_before_data_had_a_digest_is_taken(caplog):
    state, resumed = state_after(4), loader()
    del state["data"]["digest of names and objects"]
    resumed.load_state_dict(state)
    assert resumed.position == 4
    assert "other" not in caplog.text


def test_indices_outside_of_the_data_are_refused():
    state, resumed = state_after(4, "subset"), loader("subset")
    state["sampler"]["_indexes_subset"] = torch.full((20,), 10**6)[:10]
    with pytest.raises(UserError, match="_indexes_subset"):
        resumed.load_state_dict(state)


def test_more_arguments_of_detectron2s_loader_are_taken():
    options = {"total_batch_size": None, "single_gpu_batch_size": 2, "aspect_ratio_grouping": False}
    ours = loader(drop_last=True, num_workers=0, prefetch_factor=5, **options)
    assert ours.batch_size == 2
    arguments = {**options, "mapper": dict, "drop_last": True}
    theirs = build_detection_train_loader(RECORDS, sampler=SAMPLERS["training"](), **arguments)
    expected = ids(theirs, 9)
    assert ids(ours, 9) == expected
    assert ids(loader(num_workers=1, prefetch_factor=1, **options), 3) == expected[:3]


def test_two_batch_sizes_or_none_and_incomplete_batches_are_refused():
    for sizes in ({"total_batch_size": 4, "single_gpu_batch_size": 2}, {"total_batch_size": None}):
        with pytest.raises(UserError, match="single_gpu_batch_size .*; give one of them"):
            loader(**sizes)
    with pytest.raises(UserError, match="drop_last .* is False; it must be True"):
        loader(drop_last=False)
