"""The focal loss of a head's outputs, and its variant FL*.

``functional``
    The public functions. They check the arguments and choose the backend. Start there. The backend
    "reference" is ``ops.reference``, which PyTorch differentiates by itself.
``form``
    The formula that the fused backends share, and the arguments that they take.
``autograd``
    Makes the fused backends functions that PyTorch can differentiate and compile.
``torch_backend``
    The fused backend "torch", with ATen operations. Runs on a CPU, and on GPUs without Triton.
``cpu_sweep``
    The part of "torch" that takes nearly all of its time on a CPU: the background logits.
``triton_backend``
    The fused backend "triton", with kernels for CUDA.
"""

from focal_retina.ops.focal_loss.functional import sigmoid_focal_loss, sigmoid_focal_loss_star

__all__ = ["sigmoid_focal_loss", "sigmoid_focal_loss_star"]
