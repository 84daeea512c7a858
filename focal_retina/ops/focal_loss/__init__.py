"""Focal loss of dense predictions: public functions, their autograd, and one file per backend."""

from focal_retina.ops.focal_loss.functional import sigmoid_focal_loss, sigmoid_focal_loss_star

__all__ = ["sigmoid_focal_loss", "sigmoid_focal_loss_star"]
