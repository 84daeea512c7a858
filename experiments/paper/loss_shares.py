"""Figure 4: the share of the loss that the hardest examples carry (paper Sec. 5.1)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from focal_retina import FocalRetinaNet
from focal_retina.ops import reference
from focal_retina.ops.reference import flatten_logits

GAMMAS = (0.0, 0.5, 1.0, 2.0)
# How many examples the paper draws.
NUM_FOREGROUND, NUM_BACKGROUND = 10**5, 10**7


class Reservoir:
    """A uniform sample, without replacement, of a stream of numbers, in bounded memory.

    Args:
        capacity: the size of the sample, once so many numbers have come.
        seed: of the choice.
    """

    def __init__(self, capacity: int, seed: int = 0):
        self.capacity = capacity
        self._generator = torch.Generator().manual_seed(seed)
        self._keys = self.values = torch.zeros(0)

    def add(self, values: Tensor) -> None:
        """Add (M,) values of the stream."""
        # Each value gets a random key. The sample is the values with the smallest keys.
        keys = torch.cat([self._keys, torch.rand(len(values), generator=self._generator)])
        values = torch.cat([self.values, values.detach().cpu().float()])
        self._keys, kept = keys.topk(min(self.capacity, len(keys)), largest=False)
        self.values = values[kept]


@torch.no_grad()
def sample_logits(
    model: FocalRetinaNet,
    inputs: Iterable[dict],
    num_foreground: int = NUM_FOREGROUND,
    num_background: int = NUM_BACKGROUND,
) -> tuple[Tensor, Tensor]:
    """
    Return x_t = y x, whose sigmoid is p_t, of samples of foreground and of background examples.

    An example is an anchor and a class: a foreground anchor with its object's class, or a
    background anchor with any of the K classes.

    Args:
        model: has sigmoid logits.
        inputs: "image" and "instances", as Detectron2's ``DatasetMapper`` makes them for training.
        num_foreground, num_background: sizes of the samples, if there are so many examples.
    """
    model.eval()
    foreground, background = Reservoir(num_foreground), Reservoir(num_background)
    for x in inputs:
        logits, labels = _logits_and_labels(model, x)
        is_foreground = (labels >= 0) & (labels < model.num_classes)
        foreground.add(logits[is_foreground, labels[is_foreground]])
        background.add(-logits[labels == model.num_classes].flatten())
    return foreground.values, background.values


def _logits_and_labels(model: FocalRetinaNet, inputs: dict) -> tuple[Tensor, Tensor]:
    """Return the logits (R, K) and labels (R,) of an image."""
    outputs = model.head_outputs([inputs])
    _, assignment = model.assign([inputs], outputs)
    return flatten_logits(outputs.logits, model.num_classes)[0], assignment.gt_labels[0]


def cumulative_loss(x_t: Tensor, gamma: float) -> np.ndarray:
    """Return the share of the focal loss that the easiest 1, 2, ..., M examples carry, (M,)."""
    x_t = x_t.double()
    losses = reference.focal_loss(x_t, torch.ones_like(x_t), alpha=None, gamma=gamma)
    losses = losses.sort().values
    return (losses.cumsum(0) / losses.sum()).numpy()


def share_of_hardest(cumulative: np.ndarray, fraction: float) -> float:
    """Return the share of the loss that the hardest ``fraction`` of the examples carry."""
    count = len(cumulative) - round(len(cumulative) * fraction)
    return float(1 - (cumulative[count - 1] if count else 0))


def fraction_that_carries(cumulative: np.ndarray, share: float) -> float:
    """Return the smallest fraction of the examples that carries ``share`` of the loss."""
    easiest = np.searchsorted(cumulative, 1 - share, side="right")
    return float(1 - easiest / len(cumulative))


def facts(foreground: Tensor, background: Tensor) -> Iterator[str]:
    """Yield the two facts that the paper reads from the figure, as numbers for each gamma."""
    yield f"{len(foreground)} foreground and {len(background)} background examples"
    for gamma in GAMMAS:
        share = share_of_hardest(cumulative_loss(foreground, gamma), 0.2)
        fraction = fraction_that_carries(cumulative_loss(background, gamma), 0.95)
        yield (
            f"gamma {gamma:g}: the hardest 20% of foreground carry {share:.0%} of its loss; "
            f"{fraction:.2%} of background carry 95% of its loss"
        )


def draw_loss_shares(foreground: Tensor, background: Tensor, path: Path) -> None:
    """Draw the cumulative normalised loss of both groups, a line for each gamma."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    groups = {"foreground": foreground, "background": background}
    for axes, (name, x_t) in zip(figure.subplots(1, 2), groups.items(), strict=True):
        fractions = np.linspace(0, 1, 1001)
        for gamma in GAMMAS:
            cumulative = np.concatenate([[0], cumulative_loss(x_t, gamma)])
            places = np.linspace(0, 1, len(cumulative))
            axes.plot(fractions, np.interp(fractions, places, cumulative), label=f"{gamma:g}")
        axes.set(xlabel=f"fraction of {name}", ylabel="cumulative normalized loss")
        axes.grid(alpha=0.3)
        axes.legend(title="gamma", frameon=False)
    figure.savefig(path, dpi=120)
