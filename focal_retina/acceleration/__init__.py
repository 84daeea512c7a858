"""What makes a forward pass on a CPU faster: Winograd's convolutions and folded batch norm.

``forward``
    ``accelerated_forward``, the context that the model enters. Start there.
``convolution``
    Which convolutions of the model Winograd's algorithm computes.
``winograd``, ``winograd_basis``
    The algorithm, and its change of basis.
``folding``
    Batch norm of fixed statistics, folded into the convolution before it.
"""
