"""The private names of others that we lean on still mean what they meant."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RandomSubsetTrainingSampler, TrainingSampler
from detectron2.engine import SimpleTrainer, hooks
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from fvcore.common.registry import Registry
from torch import nn

from focal_retina import detectron2_internals as internals
from focal_retina.errors import UserError


class Recording(internals.OpenCheckpointer):
    """Remember what the steps of loading get and return."""

    def load_file(self, filename):
        self.asked = self.asks_for_matching()
        content = super().load_file(filename)
        self.names = list(content["model"])
        return content

    def load_model(self, checkpoint):
        self.incompatible = super().load_model(checkpoint)
        return self.incompatible


def test_the_steps_of_a_checkpointer_are_called_by_their_public_names(tmp_path):
    path = str(tmp_path / "a.pth")
    torch.save({"model": {"weight": torch.ones(2, 1)}}, path)
    checkpointer = Recording(nn.Linear(1, 2))
    checkpointer.load(path)
    assert checkpointer.names == ["weight"]
    assert checkpointer.incompatible.missing_keys == ["bias"]
    assert checkpointer.model.weight.tolist() == [[1], [1]]
    assert not checkpointer.asked
    checkpointer.load(f"{path}?matching_heuristics=True")
    assert checkpointer.asked


def test_arrays_become_tensors_in_place_and_anything_else_is_refused():
    weights = {"a": np.ones(2, np.float32)}
    checkpointer = internals.OpenCheckpointer(nn.Linear(1, 1))
    checkpointer.arrays_to_tensors(weights)
    assert torch.equal(weights["a"], torch.ones(2))
    with pytest.raises(UserError, match="a: <class 'str'>"):
        checkpointer.arrays_to_tensors({"a": "text"})


@pytest.mark.parametrize("kind", [TrainingSampler, RandomSubsetTrainingSampler])
def test_a_sampler_with_the_state_of_another_gives_its_indices(kind):
    arguments = (9,) if kind is TrainingSampler else (9, 0.5)
    one, other = kind(*arguments), kind(*arguments)
    one._rank, one._world_size = 1, 2  # of another process
    internals.set_sampler_state(other, internals.sampler_state(one))
    assert (other._rank, other._world_size) == (0, 1)
    assert list(islice(one, 9)) == list(islice(other, 1, 18, 2))


def test_a_registry_knows_its_objects_by_name_and_forgets_what_is_deleted():
    registry = Registry("TEST")
    registry.register(dict)
    assert internals.registered_objects(registry) == {"dict": dict}
    del internals.registered_objects(registry)["dict"]
    assert "dict" not in registry


def test_a_trainer_s_hooks_and_batches_are_its_own():
    trainer, hook = SimpleTrainer(nn.Linear(1, 1), [[1], [2]], None), hooks.IterationTimer()
    trainer.register_hooks([hook])
    assert internals.hooks_of(trainer) == [hook]
    assert [internals.next_batch(trainer) for _ in range(2)] == [[1], [2]]


def test_precise_batch_norm_has_a_loader_only_where_a_layer_needs_it():
    model, loader = nn.BatchNorm1d(2).train(), [1]
    assert internals.precise_bn_loader(hooks.PreciseBN(0, model, loader, 1)) is loader
    assert internals.precise_bn_loader(hooks.PreciseBN(0, nn.Linear(1, 1), loader, 1)) is None


def test_pictures_that_no_writer_took_are_counted():
    with EventStorage() as storage:
        storage.put_image("a", np.zeros((3, 2, 2)))
        assert internals.num_pending_images(storage) == 1


def test_norms_and_steps_of_many_tensors_are_those_of_each():
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([-2.0])]
    assert internals.gradient_norms(tensors).tolist() == [5.0, 2.0]
    internals.lerp_all_(tensors, [torch.zeros(2), torch.zeros(1)], 0.5)
    assert [x.tolist() for x in tensors] == [[1.5, 2.0], [-1.0]]


def test_layers_of_every_number_of_dimensions_are_known():
    assert all(issubclass(x, internals.BatchNorm) for x in (nn.BatchNorm1d, nn.BatchNorm3d))
    assert all(issubclass(x, internals.Dropout) for x in (nn.Dropout, nn.Dropout3d))


def test_groups_of_processes_are_forgotten():
    comm._LOCAL_PROCESS_GROUP = object()
    internals.forget_process_groups()
    assert comm._LOCAL_PROCESS_GROUP is None


def test_the_class_of_coco_s_evaluation_is_another_inside_only():
    before = coco_evaluation.COCOeval
    with internals.coco_eval_class(dict):
        assert coco_evaluation.COCOeval is dict
    assert coco_evaluation.COCOeval is before


def test_a_coco_evaluator_keeps_its_dataset_in_another_class():
    evaluator = COCOEvaluator.__new__(COCOEvaluator)
    evaluator._coco_api = SimpleNamespace(dataset={"images": []})
    internals.replace_coco_api(evaluator, list)
    assert evaluator._coco_api == ["images"]


def test_sizes_of_an_example_are_not_taken_for_constants():
    class Tiles(nn.Module):
        def forward(self, x):
            return x.contiguous(memory_format=torch.channels_last) * 2

    sizes = {2: torch.export.Dim("h", min=1), 3: torch.export.Dim("w", min=1)}
    with internals.sizes_not_specialised():
        example = (torch.zeros(1, 3, 4, 6),)
        program = torch.export.export(Tiles(), example, dynamic_shapes=(sizes,)).module()
    assert program(torch.ones(1, 3, 1, 5)).shape == (1, 3, 1, 5)


def test_writers_of_a_hook_tell_their_file_and_last_iteration(tmp_path):
    (writer,) = internals.writers_of(hooks.PeriodicWriter([JSONWriter(f"{tmp_path}/metrics.json")]))
    with EventStorage(7) as storage:
        storage.put_scalar("a", 1.0)
        storage.step()
        writer.write()
    assert internals.open_file_of(writer).name.endswith("metrics.json")
    assert internals.last_write(writer) == 7


def test_the_tensorboard_writer_begins_a_new_file_and_hides_old_events(tmp_path):
    writer = TensorboardXWriter(str(tmp_path))
    internals.flush_events(writer)  # nothing is open yet
    first = writer._writer
    internals.reopen_events(writer)
    internals.hide_events_from(writer, 3)
    assert writer._writer is not first
    assert writer._writer_args["purge_step"] == 3
    internals.set_last_write(writer, 5)
    assert writer._last_write == internals.last_write(writer) == 5


def test_a_pytorch_that_cannot_keep_sizes_open_is_refused(monkeypatch):
    monkeypatch.setattr(torch.fx.experimental, "_config", object())
    with pytest.raises(UserError, match="any image size; install a later"):
        internals.sizes_not_specialised().__enter__()


def test_a_module_that_cannot_be_scripted_says_so_also_within_another():
    class Part(internals.Unscriptable, torch.nn.Module):
        def forward(self, x):
            return x

    for module in (Part(), torch.nn.Sequential(torch.nn.ReLU(), Part())):
        with pytest.raises(UserError, match="Part cannot be scripted; .*focal_retina.tools.export"):
            torch.jit.script(module)
