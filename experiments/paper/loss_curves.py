"""The paper's figures of the losses themselves: Figure 1 and, of the appendix, 5 to 7."""

from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from focal_retina.ops import reference

# Of Figure 1.
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
# (gamma, beta) of Figure 5: the two of Table 3.
STAR_FORMS = ((2.0, 1.0), (4.0, 0.0))


def draw_loss_figures(folder: Path) -> list[Path]:
    """Write figure_1.png, figure_5.png, figure_6.png and figure_7.png; return their paths."""
    draws = {1: _draw_figure_1, 5: _draw_figure_5, 6: _draw_figure_6, 7: _draw_figure_7}
    paths = []
    for number, draw in draws.items():
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_title(f"Figure {number}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        paths.append(folder / f"figure_{number}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def _draw_figure_1(axes) -> None:
    """The focal loss against p_t."""
    p_t = torch.linspace(0.001, 1, 500, dtype=torch.float64)[:-1]
    for gamma in GAMMAS:
        loss = reference.focal_loss(p_t.logit(), torch.ones_like(p_t), alpha=None, gamma=gamma)
        axes.plot(p_t, loss, label=f"gamma = {gamma:g}" + (" (CE)" if gamma == 0 else ""))
    axes.axvspan(0.6, 1, color="gray", alpha=0.1)
    axes.set(xlabel="probability of the true class p_t", ylabel="loss", ylim=(0, 5))


def _draw_figure_5(axes) -> None:
    """CE, FL and FL* against x_t = y x."""
    x_t = _logits()
    for name, (loss, _) in _losses().items():
        axes.plot(x_t, loss(x_t, torch.ones_like(x_t)), label=name)
    axes.set(xlabel="x_t", ylabel="loss", ylim=(0, 8))


def _draw_figure_6(axes) -> None:
    """Their derivatives for foreground, y = 1."""
    x_t = _logits()
    for name, (_, gradient) in _losses().items():
        axes.plot(x_t, gradient(x_t, torch.ones_like(x_t)), label=name)
    axes.set(xlabel="x_t", ylabel="derivative for x")


def _draw_figure_7(axes) -> None:
    """FL* over gamma and beta; the two settings of Table 3 stand out."""
    x_t = _logits()
    for gamma in (0.5, 1.0, 2.0, 4.0, 8.0):
        for beta in (-2.0, 0.0, 1.0, 2.0):
            loss = partial(reference.focal_loss_star, gamma=gamma, beta=beta)
            is_published = (gamma, beta) in STAR_FORMS
            style = {"color": "C0" if is_published else "lightgray", "zorder": 2 + is_published}
            label = f"gamma = {gamma:g}, beta = {beta:g}" if is_published else None
            axes.plot(x_t, loss(x_t, torch.ones_like(x_t)), label=label, **style)
    axes.set(xlabel="x_t", ylabel="FL*", ylim=(0, 8))


def _logits() -> torch.Tensor:
    return torch.linspace(-6, 6, 500, dtype=torch.float64)


def _losses() -> dict:
    """Return the loss and its derivative, by name."""
    losses = {"CE": (reference.cross_entropy, reference.cross_entropy_gradient)}
    focal = {"alpha": None, "gamma": 2.0}
    losses["FL gamma = 2"] = (
        partial(reference.focal_loss, **focal),
        partial(reference.focal_loss_gradient, **focal),
    )
    for gamma, beta in STAR_FORMS:
        star = {"gamma": gamma, "beta": beta}
        losses[f"FL* gamma = {gamma:g}, beta = {beta:g}"] = (
            partial(reference.focal_loss_star, **star),
            partial(reference.focal_loss_star_gradient, **star),
        )
    return losses
