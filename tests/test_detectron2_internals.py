"""The private names of others that we lean on still mean what they meant."""

import io
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.samplers import RandomSubsetTrainingSampler, TrainingSampler
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from fvcore.common.registry import Registry
from iopath.common.file_io import PathManager as PathManagerBase
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


def test_what_does_not_fit_is_logged_by_a_public_name(caplog):
    checkpointer = internals.OpenCheckpointer(nn.Linear(1, 2))
    checkpointer.log_misfits(checkpointer.load_model({"model": {"weight": torch.ones(2, 1)}}))
    assert "bias" in caplog.text


def test_pythons_own_unpickler_has_a_table_of_opcodes_and_a_stack():
    seen = []

    class Watching(internals.PythonUnpickler):
        def load_append(self):
            seen.append(self.stack[-1])
            self.stack.pop()

        dispatch = {**internals.PythonUnpickler.dispatch, pickle.APPEND[0]: load_append}

    assert Watching(io.BytesIO(pickle.dumps([7], protocol=4))).load() == []
    assert seen == [7]


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
    internals.close_batches(trainer)
    with pytest.raises(StopIteration):
        internals.next_batch(trainer)


def test_a_loader_that_generates_batches_is_told_of_the_end_and_begins_again():
    ended = []

    class Loader:
        def __iter__(self):
            try:
                yield from (1, 2)
            finally:
                ended.append(True)

    trainer = SimpleTrainer(nn.Linear(1, 1), Loader(), None)
    internals.close_batches(trainer)
    assert [internals.next_batch(trainer), ended] == [1, []]
    internals.close_batches(trainer)
    assert ended == [True]
    assert internals.next_batch(trainer) == 1


def test_precise_batch_norm_has_a_loader_only_where_a_layer_needs_it():
    model, loader = nn.BatchNorm1d(2).train(), [1]
    assert internals.precise_bn_loader(hooks.PreciseBN(0, model, loader, 1)) is loader
    assert internals.precise_bn_loader(hooks.PreciseBN(0, nn.Linear(1, 1), loader, 1)) is None


def test_pictures_that_no_writer_took_are_counted():
    with EventStorage() as storage:
        storage.put_image("a", np.zeros((3, 2, 2)))
        assert internals.num_pending_images(storage) == 1


def test_norms_of_many_tensors_are_those_of_each():
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([-2.0])]
    assert internals.gradient_norms(tensors).tolist() == [5.0, 2.0]


def test_layers_of_every_number_of_dimensions_are_known():
    assert all(issubclass(x, internals.BatchNorm) for x in (nn.BatchNorm1d, nn.BatchNorm3d))
    assert all(issubclass(x, internals.Dropout) for x in (nn.Dropout, nn.Dropout3d))


def test_groups_of_processes_are_forgotten():
    comm._LOCAL_PROCESS_GROUP = object()
    internals.forget_process_groups()
    assert comm._LOCAL_PROCESS_GROUP is None


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


def test_a_mapper_of_detectron2_reads_by_another_function_while_it_is_given():
    asked = []

    def read(file_name, format=None):
        asked.append((file_name, format))
        return np.ones((2, 3, 3), np.uint8)

    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    with internals.images_read_by(read):
        assert mapper({"file_name": "no.png"})["image"].shape == (3, 2, 3)
    assert asked == [("no.png", "BGR")]
    with pytest.raises(FileNotFoundError):
        mapper({"file_name": "no.png"})


def test_detectron2_opens_files_and_makes_folders_by_a_handler_of_ours(tmp_path):
    seen = []

    class Noting(internals.OpenPathHandler):
        def open(self, path, mode, **options):
            seen.append((path, mode))
            return super().open(path, mode, **options)

        def make_folder(self, path):
            seen.append(path)
            super().make_folder(path)

    manager = PathManagerBase()
    manager.register_handler(Noting())
    folder, file = str(tmp_path / "a/b"), str(tmp_path / "a/b/c.txt")
    manager.mkdirs(folder)
    with manager.open(file, "w") as opened:
        opened.write("text")
    assert seen == [folder, (file, "w")]
    assert (tmp_path / "a/b/c.txt").read_text() == "text"


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipping_passes_over_parameters_without_gradient(kind):
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    optimizer = torch.optim.SGD(layers.parameters(), 1.0)
    clipping = {"ENABLED": True, "CLIP_TYPE": kind, "CLIP_VALUE": 0.5, "NORM_TYPE": 2.0}
    with internals.clipping_of_gradients_that_are_there():
        cfg = CfgNode({"SOLVER": {"CLIP_GRADIENTS": CfgNode(clipping)}})
        clipped = maybe_add_gradient_clipping(cfg, optimizer)
    before = layers[0].bias.item(), layers[1].bias.item()
    layers[0](torch.full((1, 1), 7.0)).sum().mul(100).backward()
    clipped.step()
    assert before[0] - layers[0].bias.item() == pytest.approx(0.5, abs=1e-4)
    assert layers[1].bias.item() == before[1]


def test_a_module_that_cannot_be_scripted_says_so_also_within_another():
    class Part(internals.Unscriptable, torch.nn.Module):
        def forward(self, x):
            return x

    for module in (Part(), torch.nn.Sequential(torch.nn.ReLU(), Part())):
        with pytest.raises(UserError, match="Part cannot be scripted; .*focal_retina.tools.export"):
            torch.jit.script(module)
