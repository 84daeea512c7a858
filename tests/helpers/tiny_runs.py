"""A training of milliseconds, with random data, dropout, batch norm and evaluations."""

import torch
from detectron2.engine import hooks
from detectron2.utils.env import seed_all_rng
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.loader import build_train_loader
from focal_retina.training.loop import TrainingLoop
from focal_retina.training.resume import ExactResume, RunTimer
from focal_retina.training.run_checkpointer import RunCheckpointer
from focal_retina.training.writers import resumable_writers

RECORDS = [{"image_id": i, "width": 2 + i % 2, "height": 2} for i in range(11)]


def noisy(record):
    return torch.rand(4) + record["image_id"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Flatten())

    def forward(self, batch):
        return {"loss": self.layers(torch.stack(batch)).square().mean()}


class Died(BaseException):
    """What stops a training like a signal: nothing catches it."""


def build(folder, *, max_iter=12, die_at=None, data_loader=None, precise_bn=False, **options):
    """Return a trainer that has loaded the last checkpoint, if there is one, and ``train``.

    Args:
        die_at: (iteration, place), the place being "step" or "evaluation".
        options: of ``RunCheckpointer``.
    """
    seed_all_rng(1)
    model = Net()
    loader = data_loader or _loader()
    trainer = TrainingLoop(model, loader, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))

    def die(place):
        if die_at == (trainer.iter, place):
            raise Died

    def evaluate():
        die("evaluation")
        torch.rand(7)  # draws as evaluations may do
        return {"score": float(model.layers[0].weight.sum())}

    saving = FocalCheckpointer(model, str(folder), trainer=trainer)
    built = [
        RunTimer(),
        hooks.CallbackHook(after_step=lambda _: die("step")),
        *([hooks.PreciseBN(4, model, _loader(), 2)] if precise_bn else []),
        RunCheckpointer(saving, **{"period": 4, **options}),
        hooks.EvalHook(4, evaluate),
        hooks.PeriodicWriter(resumable_writers(str(folder), max_iter), period=5),
        ExactResume(),
    ]
    trainer.register_hooks(built)
    resumes = saving.has_checkpoint()
    saving.resume_or_load("", resume=True)
    trainer.run = lambda: trainer.train(trainer.iter + 1 if resumes else 0, max_iter)
    return trainer


def _loader():
    return build_train_loader(RECORDS, mapper=noisy, total_batch_size=3)
