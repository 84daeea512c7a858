"""The change of basis of Winograd's F(4x4, 3x3) along one axis, by few additions.

The axis is the first one of all tensors, which may have any strides. ``scratch`` has length 2 along
it, else the shape of ``out``. Lavin and Gray (arXiv:1509.09308) give the matrices.
"""

import torch
from torch import Tensor


def transform_input(x: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write the 6 points of 6 inputs, by the article's B^T::

    4  0 -5  0  1  0
    0 -4 -4  1  1  0
    0  4 -4 -1  1  0
    0 -2 -1  2  1  0
    0  2 -1 -2  1  0
    0  4  0 -5  0  1
    """
    (x0, x1, x2, x3, x4, x5), (even, odd), (p0, p1, p2, p3, p4, p5) = x, scratch, out
    torch.sub(x4, x2, alpha=4, out=even)
    torch.sub(x3, x1, alpha=4, out=odd)
    torch.add(even, odd, out=p1)
    torch.sub(even, odd, out=p2)
    torch.sub(x4, x2, out=even)
    torch.sub(x3, x1, out=odd)
    torch.add(even, odd, alpha=2, out=p3)
    torch.sub(even, odd, alpha=2, out=p4)
    torch.sub(x0, x2, out=p0)
    torch.add(even, p0, alpha=4, out=p0)
    torch.sub(x5, x3, out=p5)
    torch.sub(p5, odd, alpha=4, out=p5)


def transform_output(points: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write the 4 outputs of 6 points, by the article's A^T::

    1  1  1  1  1  0
    0  1 -1  2 -2  0
    0  1  1  4  4  0
    0  1 -1  8 -8  1
    """
    (p0, p1, p2, p3, p4, p5), (near, far), (y0, y1, y2, y3) = points, scratch, out
    torch.add(p1, p2, out=near)
    torch.add(p3, p4, out=far)
    torch.add(p0, near, out=y0)
    torch.add(y0, far, out=y0)
    torch.add(near, far, alpha=4, out=y2)
    torch.sub(p1, p2, out=near)
    torch.sub(p3, p4, out=far)
    torch.add(near, far, alpha=2, out=y1)
    torch.add(p5, near, out=y3)
    torch.add(y3, far, alpha=8, out=y3)


def transform_gradient(grad: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write the gradients of the 6 points of 4 outputs, by A."""
    (y0, y1, y2, y3), (even, odd), (p0, p1, p2, p3, p4, p5) = grad, scratch, out
    p0.copy_(y0)
    p5.copy_(y3)
    torch.add(y0, y2, out=even)
    torch.add(y1, y3, out=odd)
    torch.add(even, odd, out=p1)
    torch.sub(even, odd, out=p2)
    torch.add(y0, y2, alpha=4, out=even)
    torch.add(y1, y3, alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=p3)
    torch.sub(even, odd, alpha=2, out=p4)


def transform_weight(weight: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write the 6 points of 3 weights, by the article's G, here times 24::

     6  0  0
    -4 -4 -4
    -4  4 -4
     1  2  4
     1 -2  4
     0  0 24
    """
    (w0, w1, w2), (even, odd), (p0, p1, p2, p3, p4, p5) = weight, scratch, out
    torch.mul(w0, 1 / 4, out=p0)
    p5.copy_(w2)
    torch.add(w0, w2, out=even).mul_(-1 / 6)
    torch.mul(w1, 1 / 6, out=odd)
    torch.sub(even, odd, out=p1)
    torch.add(even, odd, out=p2)
    torch.add(w0, w2, alpha=4, out=even).mul_(1 / 24)
    torch.mul(w1, 1 / 12, out=odd)
    torch.add(even, odd, out=p3)
    torch.sub(even, odd, out=p4)


def transform_weight_gradient(points: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write the gradients of 3 weights from those of their 6 points, by G^T."""
    (p0, p1, p2, p3, p4, p5), (near, far), (w0, w1, w2) = points, scratch, out
    torch.add(p1, p2, out=near).mul_(-1 / 6)
    torch.add(p3, p4, out=far).mul_(1 / 24)
    torch.add(near, far, out=w0)
    torch.add(w0, p0, alpha=1 / 4, out=w0)
    torch.add(near, far, alpha=4, out=w2)
    torch.add(w2, p5, out=w2)
    torch.sub(p2, p1, out=near).mul_(1 / 6)
    torch.sub(p3, p4, out=far)
    torch.add(near, far, alpha=1 / 12, out=w1)
