"""Checkpoints from when a model had a P7 even where no part of it used P7."""

from torch import nn
from torch.optim import Optimizer

_P7 = "backbone.top_block.p7."


def drop_unbuilt_p7(content: dict, model: nn.Module, optimizer: Optimizer) -> None:
    """Take P7 out of a run's checkpoint, in place, if the model has none.

    Without it, the optimizer and the average of the weights would not take up their states.
    """
    order, parameters = list(content["model"]), dict(model.named_parameters())
    names = [name for name in order if name.startswith(_P7) and name not in parameters]
    if not names:
        return
    trainer = content["trainer"]
    state = trainer.get("_trainer", trainer)["optimizer"]
    names_of = {id(parameter): name for name, parameter in parameters.items()}
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        now = [names_of[id(parameter)] for parameter in group["params"]]
        # P7's weights had the options of P6's.
        then = [*now, *(name for name in names if name.replace(".p7.", ".p6.") in now)]
        then.sort(key=order.index)
        for index, name in zip(list(saved["params"]), then, strict=True):
            if name in names:
                saved["params"].remove(index)
                state["state"].pop(index, None)
    average = trainer["hooks"].get("ModelEMA", {"model": {}})["model"]
    for weights in (content["model"], average):
        for name in names:
            weights.pop(name, None)
