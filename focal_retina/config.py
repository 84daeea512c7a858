"""The configuration keys that Detectron2 lacks.

Detectron2's own keys (``MODEL.RETINANET.*``, ``MODEL.ANCHOR_GENERATOR.*``, ``MODEL.FPN.*``,
``SOLVER.*``, ``INPUT.*``) are reused with their meaning. The defaults below reproduce Detectron2's
RetinaNet; the base configs of the ``paper`` and ``detectron1`` profiles change them.
"""

from detectron2.config import CfgNode


def focal_retina_defaults() -> CfgNode:
    """Return the ``MODEL.FOCAL_RETINA`` node with its default values."""
    node = CfgNode()

    # Implementation of loss, labelling and post-processing: "reference" (the readable formulas),
    # "torch", "triton", or "auto" (triton on CUDA where it is installed, else torch).
    node.BACKEND = "auto"

    # The feature that P6 is computed from: "c5" (the paper) or "p5" (torchvision, mmdetection).
    node.P6_FROM = "c5"
    # A ReLU between P6 and P7, as in the paper; mmdetection's RetinaNet has none.
    node.P7_RELU = True

    # OctaveAnchorGenerator: scales 2^(k/n), k < n, of each size in MODEL.ANCHOR_GENERATOR.SIZES.
    node.SCALES_PER_OCTAVE = 3
    # OctaveAnchorGenerator: round the sides of each level's stride-sized anchor to whole pixels
    # before scaling, as the authors' code does.
    node.ROUND_ANCHORS = False

    # Anchors made foreground because they are an object's best, below the foreground threshold:
    # "none" (the paper does not mention any), "detectron1" (only anchors that are not background)
    # or "detectron2" (at any IoU above 0).
    node.LOW_QUALITY_MATCHES = "detectron2"

    # Divisor of both losses: foreground anchors of each "image" (the paper), of the "gpu", of
    # "all_gpus", or "ema" (running mean of the GPU's count, kept in the checkpoint).
    node.NORMALIZER = "ema"
    # Added to the foreground count for every image ("gpu" and "all_gpus"); the authors' code has 1.
    node.NORMALIZER_OFFSET = 0
    # "ema" only: start value, in anchors, and momentum.
    node.NORMALIZER_START = 100.0
    node.NORMALIZER_MOMENTUM = 0.9

    # Score threshold at test on the coarsest level; None means MODEL.RETINANET.SCORE_THRESH_TEST.
    node.SCORE_THRESH_TEST_LAST_LEVEL = None

    # build_focal_retina_regnet_fpn_backbone: Detectron2's RegNet, here RegNetX-4GF. A RegNetY has
    # SE_RATIO 0.25. Its features are s1 to s4: set MODEL.FPN.IN_FEATURES to s2, s3, s4.
    node.REGNET = CfgNode()
    node.REGNET.STEM_WIDTH = 32
    node.REGNET.DEPTH = 23
    node.REGNET.W_A = 38.65
    node.REGNET.W_0 = 96
    node.REGNET.W_M = 2.43
    node.REGNET.GROUP_WIDTH = 40
    node.REGNET.SE_RATIO = 0.0
    node.REGNET.NORM = "FrozenBN"

    # build_focal_retina_timm_fpn_backbone: any timm model with features of strides 8, 16 and 32,
    # which are called res3, res4 and res5. MODEL.BACKBONE.FREEZE_AT does not apply.
    node.TIMM = CfgNode()
    node.TIMM.NAME = "resnet50"
    # Start from timm's weights, which timm downloads; MODEL.WEIGHTS, if set, replaces them.
    node.TIMM.PRETRAINED = False
    # Keep batch norm's statistics and weights as they are, for batches of few images.
    node.TIMM.FREEZE_BN = False
    # More arguments of timm.create_model, by name.
    node.TIMM.OPTIONS = CfgNode(new_allowed=True)

    # Clip boxes to the image before NMS, not only after it, as torchvision, mmdetection and the
    # authors' code do.
    node.CLIP_BEFORE_NMS = False

    # Images are padded to a multiple of this many pixels; 0 means the backbone's own (32 for FPN).
    node.SIZE_DIVISIBILITY = 0

    # Feature maps and weights as (N, H, W, C) in memory: the same values up to rounding, measured
    # faster on CPUs (training 1.8 times, docs/results).
    node.CHANNELS_LAST = True

    # torch.compile backbone and head. For GPUs: a CPU gains nothing from it.
    node.COMPILE = False
    return node


def focal_retina_node(cfg: CfgNode) -> CfgNode:
    """Return ``cfg.MODEL.FOCAL_RETINA``, or its defaults where the config was made without it.

    Thus a config and a script of Detectron2's own need no more than ``import focal_retina``.
    """
    return cfg.MODEL.get("FOCAL_RETINA") or focal_retina_defaults()


def add_focal_retina_config(cfg: CfgNode) -> None:
    """Add the keys of focal_retina, with their defaults, to a Detectron2 config in place."""
    cfg.MODEL.FOCAL_RETINA = focal_retina_defaults()

    # Datasets to register at start: [name, COCO json, image folder] or
    # [name, "voc", VOC folder, split]; no Python needed.
    cfg.DATASETS.REGISTER = []

    # Precision of SOLVER.AMP.ENABLED on CUDA: "float16" (Detectron2's, with loss scaling) or
    # "bfloat16" (without). The CPU always takes bfloat16.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Evaluate under autocast, in SOLVER.AMP.DTYPE; decoding and NMS stay in float32.
    cfg.TEST.AMP = CfgNode({"ENABLED": False})
