"""A loss that is not finite ends the run before the step, says where, and can be replayed."""

import math
import subprocess
import sys

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from helpers.processes import run_processes
from helpers.small_models import tiny_batch, tiny_model
from helpers.tiny_jobs import ROOT, run_here, write_jobs
from helpers.two_stage_jobs import two_stage_config

import focal_retina  # noqa: F401  the spawned processes need the registered parts
from focal_retina.modeling.losses import IOU_LOSSES
from focal_retina.training.loop import TrainingLoop
from focal_retina.training.nonfinite import NonFiniteError
from focal_retina.training.replay import load_batch, replay, save_batch


def batch_norm_model(overrides=None, **keys):
    """Return a model with buffers that a forward pass changes."""
    return tiny_model({"MODEL.RESNETS.NORM": "BN", **(overrides or {})}, **keys)


class OwnLoss(torch.nn.Module):
    def forward(self, logits, deltas, anchors, assignment):
        return {"loss_own": logits[0].square().sum() * math.inf}


def named_batch(num_objects=(2, 0)):
    batch = tiny_batch(num_objects, (64, 96))
    for number, x in enumerate(batch):
        x["file_name"] = f"images/{number}.jpg"
    return batch


def run_until_the_end(model, batch, folder, **options):
    """Return the error's message, and the model's state before the step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop = TrainingLoop(model, [batch], optimizer, output_dir=str(folder), **options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loop.iter = 12
    with EventStorage(12), pytest.raises(NonFiniteError) as error:
        loop.run_step()
    return str(error.value), before


def batch_with_a_broken_box(loss):
    """Return a box of 32 pixels, whose height becomes infinite after it has been matched."""
    batch = named_batch()
    loss.box2box_transform.weights = (1.0, 1.0, 1.0, math.inf)
    batch[0]["instances"].gt_boxes = Boxes(torch.tensor([[16.0, 16, 48, 48]] * 2))
    return batch


def test_a_broken_box_is_traced_to_its_level_term_and_image(tmp_path):
    model = batch_norm_model()
    message, before = run_until_the_end(model, batch_with_a_broken_box(model.loss), tmp_path)
    assert message.startswith("iteration 12: loss_box_reg is ")
    assert "loss_box_reg at p3 (its logits and deltas are finite)" in message
    assert "on images images/0.jpg, images/1.jpg" in message
    assert "lower the learning rate" in message
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)


def test_so_it_is_in_the_first_stage_of_a_two_stage_model(tmp_path):
    model = build_model(two_stage_config("faster_rcnn"))
    batch = batch_with_a_broken_box(model.proposal_generator.loss)
    message, _ = run_until_the_end(model, batch, tmp_path)
    assert message.startswith("iteration 12: loss_rpn_loc is ")
    assert "from loss_box_reg at p2 (its logits and deltas are finite)" in message


def test_a_user_s_own_loss_has_no_levels_but_the_rest_of_the_sentence(tmp_path):
    model = batch_norm_model()
    model.loss = OwnLoss()
    message, _ = run_until_the_end(model, named_batch(), tmp_path)
    assert message.startswith("iteration 12: loss_own is inf on images images/0.jpg, ")


@pytest.mark.parametrize(
    ("box_loss", "output", "level", "fault"),
    [
        ("smooth_l1", 0, 0, "loss_cls at p3 (its logits are not finite)"),
        ("smooth_l1", 0, 4, "loss_cls at p7 (its logits are not finite)"),
        ("smooth_l1", 1, 1, "loss_box_reg at p4 (its deltas are not finite)"),
        # Detectron2's and fvcore's functions refuse such boxes.
        *((x, 1, 1, "loss_box_reg at p4 (its deltas are not finite)") for x in IOU_LOSSES),
    ],
)
def test_outputs_of_one_level_are_told_from_those_of_others(
    tmp_path, box_loss, output, level, fault
):
    model = batch_norm_model({"MODEL.RETINANET.BBOX_REG_LOSS_TYPE": box_loss})

    def spoil(_, __, outputs):
        outputs[output][level].data.fill_(math.nan)

    model.head.register_forward_hook(spoil)
    batch = named_batch()
    batch[0]["instances"].gt_boxes = Boxes(torch.tensor([[16.0, 0, 80, 64]] * 2))  # of p4's size
    message, _ = run_until_the_end(model, batch, tmp_path)
    assert f" is nan, from {fault} on images" in message


def test_the_file_has_batch_and_weights_and_replays_the_loss(tmp_path):
    model, batch = batch_norm_model(), named_batch((3, 1, 0))
    torch.nn.init.constant_(model.head.cls_score.bias, math.inf)
    message, before = run_until_the_end(model, batch, tmp_path)
    (path,) = tmp_path.glob("nonfinite_iter_*.pth")
    assert path.name == "nonfinite_iter_0000012_rank0.pth" and str(path) in message
    saved = torch.load(path, weights_only=True)["model"]
    torch.testing.assert_close(saved, before, atol=0, rtol=0)
    again = load_batch(path)
    assert [x["file_name"] for x in again] == [x["file_name"] for x in batch]
    assert torch.equal(again[1]["image"], batch[1]["image"])
    assert torch.equal(again[0]["instances"].gt_boxes.tensor, batch[0]["instances"].gt_boxes.tensor)
    losses = replay(path, batch_norm_model())
    assert losses["loss_box_reg"].isfinite() and not losses["loss_cls"].isfinite()


def test_only_the_micro_batch_at_fault_is_kept_when_gradients_accumulate(tmp_path):
    model, batch = batch_norm_model(), named_batch((2, 1, 2))
    batch[2]["image"] = torch.full((3, 64, 96), math.nan)
    message, _ = run_until_the_end(model, batch, tmp_path, accumulation_steps=3)
    assert "on image images/2.jpg;" in message
    (path,) = tmp_path.glob("nonfinite_iter_*.pth")
    assert len(load_batch(path)) == 1


def test_gradients_that_are_not_finite_are_named(tmp_path):
    model, batch = batch_norm_model(), named_batch()
    model.head.cls_score.weight.register_hook(lambda gradient: gradient * math.inf)
    message, _ = run_until_the_end(model, batch, tmp_path)
    assert "the losses are finite, but not the gradients of head.cls_score.weight, on" in message


def test_a_folder_that_takes_no_file_is_named_in_the_same_sentence(tmp_path):
    model, batch = batch_norm_model(), named_batch()
    torch.nn.init.constant_(model.head.cls_score.bias, math.inf)
    (tmp_path / "file").write_text("")
    message, _ = run_until_the_end(model, batch, tmp_path / "file")
    assert "the batch could not be written to" in message and "loss_cls" in message


def test_masks_and_the_rest_of_a_dict_survive_the_file(tmp_path):
    polygons = [[[0.0, 0.0, 8.0, 0.0, 8.0, 8.0]], [[1.0, 1.0, 2.0, 1.0, 2.0, 3.0]]]
    objects = Instances((64, 96), gt_masks=PolygonMasks(polygons))
    batch = [{"image": torch.zeros(3, 64, 96), "instances": objects, "height": 64, "f": print}]
    save_batch(tmp_path / "file.pth", torch.nn.Linear(1, 1), batch, None)
    (again,) = load_batch(tmp_path / "file.pth")
    assert again.keys() == {"image", "instances", "height"}
    boxes = [x.gt_masks.get_bounding_boxes().tensor for x in (again["instances"], objects)]
    assert torch.equal(*boxes)


def one_of_two_processes(folder):
    torch.set_num_threads(1)
    batch = named_batch((2,))
    if comm.get_rank() == 1:
        batch[0]["image"] = torch.full((3, 64, 96), math.nan)
        batch[0]["file_name"] = "images/bad.jpg"
    model = batch_norm_model(NORMALIZER="all_gpus")
    wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    message, _ = run_until_the_end(wrapped, batch, folder)
    (folder / f"said{comm.get_rank()}").write_text(message)


@pytest.mark.distributed
@pytest.mark.slow
def test_all_processes_end_with_the_sentence_of_the_one_at_fault(tmp_path):
    run_processes(2, one_of_two_processes, tmp_path)
    first, second = ((tmp_path / f"said{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert "images/bad.jpg" in first and "images/0.jpg" not in first
    assert [x.name for x in tmp_path.glob("*.pth")] == ["nonfinite_iter_0000012_rank1.pth"]


def diverging(tmp_path, box_loss="smooth_l1", rate=1e6):
    config = ["--config-file", write_jobs(tmp_path) / "tiny.yaml", "OUTPUT_DIR", tmp_path / "out"]
    config += ["SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 9, "SOLVER.BASE_LR", rate]
    config += ["MODEL.RETINANET.BBOX_REG_LOSS_TYPE", box_loss]
    return [*config, "SOLVER.WARMUP_ITERS", 0]


def check_end(said, folder):
    """Look at the sentence, at the last checkpoint, and at the batch."""
    (sentence,) = [line for line in said.splitlines() if ": error: iteration " in line]
    assert "images/00000" in sentence
    assert "Traceback" not in said
    iteration = int(sentence.split("error: iteration ")[1].split(":")[0])
    last = (folder / "last_checkpoint").read_text()
    assert last == f"model_{iteration - 1:07d}.pth"
    weights = torch.load(folder / last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values())
    assert list(folder.glob("nonfinite_iter_*.pth"))


@pytest.mark.parametrize(
    ("box_loss", "rate"),
    [("smooth_l1", 1e6), *(pytest.param(x, 1e5, marks=pytest.mark.slow) for x in IOU_LOSSES)],
)
def test_a_run_that_diverges_ends_in_one_sentence_and_keeps_its_checkpoint(
    box_loss, rate, tmp_path, capsys
):
    with pytest.raises(SystemExit) as stopped:
        run_here(*diverging(tmp_path, box_loss, rate))
    assert stopped.value.code == 3
    said = capsys.readouterr()
    check_end(said.err + said.out, tmp_path / "out")


@pytest.mark.distributed
@pytest.mark.slow
def test_so_do_two_processes(tmp_path):
    flags = ["train_net.py", "--num-gpus", 2, "--dist-url", "auto", *diverging(tmp_path)]
    command = [sys.executable, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 3
    check_end(done.stderr + done.stdout, tmp_path / "out")
