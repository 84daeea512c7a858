"""The focal loss of a head's outputs, and its variant FL*.

Start at ``functional``, which checks the arguments and chooses the backend. "reference" is
``ops.reference``; "torch" and "triton" compute the formula of ``form``, behind ``autograd``.
"""

from focal_retina.ops.focal_loss.functional import sigmoid_focal_loss, sigmoid_focal_loss_star

__all__ = ["sigmoid_focal_loss", "sigmoid_focal_loss_star"]
