"""The paper's figures of the losses themselves: Figure 1 and, of the appendix, 5 to 7."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from experiments.reports import axes_of_png
from focal_retina.ops import reference

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)  # of Figure 1
STAR_FORMS = ((2.0, 1.0), (4.0, 0.0))  # (gamma, beta) of Figure 5 and Table 3
_X_T = torch.linspace(-6, 6, 500, dtype=torch.float64)


def draw_loss_figures(folder: Path) -> list[Path]:
    """Write figure_1.png, figure_5.png, figure_6.png and figure_7.png; return their paths."""
    draws = {1: _draw_figure_1, 5: _draw_figure_5, 6: _draw_figure_6, 7: _draw_figure_7}
    paths = {number: folder / f"figure_{number}.png" for number in draws}
    for number, draw in draws.items():
        with axes_of_png(paths[number]) as axes:
            draw(axes)
            axes.set_title(f"Figure {number}")
    return list(paths.values())


def _draw_figure_1(axes: Axes) -> None:
    """The focal loss against p_t."""
    p_t = torch.linspace(0.001, 1, 500, dtype=torch.float64)[:-1]
    for gamma in GAMMAS:
        loss = reference.focal_loss(p_t.logit(), torch.ones_like(p_t), alpha=None, gamma=gamma)
        axes.plot(p_t, loss, label=f"gamma = {gamma:g}" + (" (CE)" if gamma == 0 else ""))
    axes.axvspan(0.6, 1, color="gray", alpha=0.1)
    axes.set(xlabel="probability of the true class p_t", ylabel="loss", ylim=(0, 5))


def _draw_figure_5(axes: Axes) -> None:
    """CE, FL and FL* against x_t = y x."""
    for name, loss in _losses().items():
        _plot_foreground(axes, loss, label=name)
    axes.set(xlabel="x_t", ylabel="loss", ylim=(0, 8))


def _draw_figure_6(axes: Axes) -> None:
    """The derivatives of the losses of Figure 5."""
    for name, loss in _losses().items():
        derivative = torch.func.grad(lambda x, t, loss=loss: loss(x, t).sum())
        _plot_foreground(axes, derivative, label=name)
    axes.set(xlabel="x_t", ylabel="derivative for x")


def _draw_figure_7(axes: Axes) -> None:
    """FL* over gamma and beta, with the two settings of Table 3 in colour."""
    for gamma in (0.5, 1.0, 2.0, 4.0, 8.0):
        for beta in (-2.0, 0.0, 1.0, 2.0):
            loss = partial(reference.focal_loss_star, gamma=gamma, beta=beta)
            if (gamma, beta) in STAR_FORMS:
                label = f"gamma = {gamma:g}, beta = {beta:g}"
                _plot_foreground(axes, loss, label=label, color="C0", zorder=3)
            else:
                _plot_foreground(axes, loss, color="lightgray")
    axes.set(xlabel="x_t", ylabel="FL*", ylim=(0, 8))


def _plot_foreground(axes: Axes, function: Callable[[Tensor, Tensor], Tensor], **style) -> None:
    """Plot a loss or its derivative against x_t; for foreground, y = 1, x is x_t."""
    axes.plot(_X_T, function(_X_T, torch.ones_like(_X_T)), **style)


def _losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the losses of Figure 5, by name."""
    losses = {
        "CE": reference.cross_entropy,
        "FL gamma = 2": partial(reference.focal_loss, alpha=None, gamma=2.0),
    }
    for gamma, beta in STAR_FORMS:
        name = f"FL* gamma = {gamma:g}, beta = {beta:g}"
        losses[name] = partial(reference.focal_loss_star, gamma=gamma, beta=beta)
    return losses
