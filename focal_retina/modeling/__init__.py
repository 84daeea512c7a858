"""The parts of the RetinaNet of "Focal Loss for Dense Object Detection" (arXiv:1708.02002).

Shapes, everywhere in this package:

    N: images of a batch
    L: feature levels, fine to coarse (P3 to P7)
    H, W: size of one level's feature map
    A: anchors per location, 9 in the paper
    K: foreground classes
    R: anchors of an image, the sum over levels of H * W * A, in the order (level, y, x, a)
    G: objects of one image
    F: foreground anchors of a batch

Names are Detectron2's:

    logits: class scores before the sigmoid, L x (N, A*K, H, W)
    deltas: (dx, dy, dw, dh) from an anchor to a box, L x (N, A*4, H, W)
    gt_labels: -1 ignore, 0..K-1 class, K background, (N, R)
    gt_*: of objects (ground truth); pred_*: of the model

The parts do not import each other: they exchange tensors, ``Boxes`` and ``Instances``.
``retinanet`` and ``proposals`` are where they meet.
"""
