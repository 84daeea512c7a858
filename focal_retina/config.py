"""The configuration keys that Detectron2 lacks.

Detectron2's own keys (``MODEL.RETINANET.*``, ``MODEL.ANCHOR_GENERATOR.*``, ``MODEL.FPN.*``,
``SOLVER.*``, ``INPUT.*``) keep their meaning. The defaults below are Detectron2's RetinaNet; the
base configs of the ``paper`` and ``detectron1`` profiles change them.
"""

from detectron2.config import CfgNode

# Keys of earlier versions, and their defaults, which are what is done now.
REMOVED_KEYS = {
    "MODEL.FOCAL_RETINA.OHEM_NMS_OVER": "anchors",
    "MODEL.FOCAL_RETINA.OHEM_SCOPE": "image",
    "MODEL.FOCAL_RETINA.OHEM_NORMALIZER": "examples",
    "MODEL.FOCAL_RETINA.HINGE_THRESHOLD": 0.5,
    "MODEL.FOCAL_RETINA.NORMALIZER_START": 100.0,
    "MODEL.FOCAL_RETINA.NORMALIZER_MOMENTUM": 0.9,
}


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
    # Anchors below the foreground threshold that are foreground because they are an object's best:
    # "none" (the paper mentions none), "detectron1" (only anchors that are not background) or
    # "detectron2" (at any IoU above 0).
    node.LOW_QUALITY_MATCHES = "detectron2"

    # Divisor of both losses: foreground anchors of each "image" (the paper), of the "gpu", of
    # "all_gpus", or "ema" (running mean of the GPU's count, kept in the checkpoint).
    node.NORMALIZER = "ema"
    # Added to the foreground count for every image ("gpu" and "all_gpus"); the authors' code has 1.
    node.NORMALIZER_OFFSET = 0

    # Classification loss: "focal" (gamma MODEL.RETINANET.FOCAL_LOSS_GAMMA; 0 is cross entropy),
    # "focal_star" (appendix A, the same gamma), "hinge" (on p_t), or "softmax_focal" (over the K
    # classes and background, of which the head then has a logit too; the authors' code).
    node.CLS_LOSS = "focal"
    # alpha of each of the K classes; empty for MODEL.RETINANET.FOCAL_LOSS_ALPHA. "focal_star" has
    # no alpha.
    node.CLASS_ALPHA = []
    # "focal_star" only: shift; the paper's Table 3 has 1 (with gamma 2) and 0 (with gamma 4).
    node.FOCAL_STAR_BETA = 1.0

    # Anchors that the classification loss sees: "all" (the paper), "ohem" (those of highest loss
    # after NMS) or "ohem_1_3" (so that there are three background anchors to one foreground).
    node.EXAMPLE_SELECTION = "all"
    # Anchors kept per image, and IoU above which NMS drops the one of lower loss; the best of
    # Table 1d. A LazyConfig can set more: see HardExampleSelection.
    node.OHEM_BATCH_SIZE = 128
    node.OHEM_NMS_THRESH = 0.5

    # Score threshold at test on the coarsest level; None means MODEL.RETINANET.SCORE_THRESH_TEST.
    node.SCORE_THRESH_TEST_LAST_LEVEL = None
    # Clip boxes to the image before NMS, not only after it, as torchvision, mmdetection and the
    # authors' code do.
    node.CLIP_BEFORE_NMS = False

    # build_focal_retina_regnet_fpn_backbone: Detectron2's RegNet, here RegNetX-4GF. A RegNetY has
    # SE_RATIO 0.25. Its features are s1 to s4: set MODEL.FPN.IN_FEATURES to s2, s3, s4.
    node.REGNET = CfgNode({"STEM_WIDTH": 32, "DEPTH": 23, "W_A": 38.65, "W_0": 96, "W_M": 2.43})
    node.REGNET.GROUP_WIDTH, node.REGNET.SE_RATIO, node.REGNET.NORM = 40, 0.0, "FrozenBN"

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

    # Images are padded to a multiple of this many pixels; 0 means the backbone's own (32 for FPN).
    node.SIZE_DIVISIBILITY = 0
    # Memory format of feature maps and weights: (N, H, W, C), which is faster on CPUs.
    node.CHANNELS_LAST = True
    # On a CPU, large 3x3 convolutions in float32 by Winograd's algorithm (on CHANNELS_LAST only),
    # and FrozenBN folded into convolutions: the same values faster, but rounded to 1e-5 of the
    # largest output. For Detectron2's values to the bit, set this and CHANNELS_LAST to False and
    # BACKEND to "reference".
    node.CPU_ACCELERATION = True
    # torch.compile backbone and head. For GPUs: a CPU gains nothing from it.
    node.COMPILE = False
    return node


def focal_retina_node(cfg: CfgNode) -> CfgNode:
    """Return ``cfg.MODEL.FOCAL_RETINA``, or its defaults where the config was made without it.

    So Detectron2's own configs and scripts need no more than ``import focal_retina``.
    """
    return cfg.MODEL.get("FOCAL_RETINA") or focal_retina_defaults()


def has_background_logit(cfg: CfgNode) -> bool:
    """Return whether the head has K + 1 logits for each anchor, the last for background."""
    return focal_retina_node(cfg).CLS_LOSS == "softmax_focal"


def add_focal_retina_config(cfg: CfgNode) -> None:
    """Add the keys of focal_retina, with their defaults, to a Detectron2 config in place.

    Files that name a removed key can still be merged; yacs warns that it ignores the key.
    """
    if "FOCAL_RETINA" not in cfg.MODEL:  # yacs refuses to register a key twice
        for key in REMOVED_KEYS:
            cfg.register_deprecated_key(key)
    cfg.MODEL.FOCAL_RETINA = focal_retina_defaults()

    # Datasets to register at start: [name, COCO json, image folder] or
    # [name, "voc", VOC folder, split]; no Python needed.
    cfg.DATASETS.REGISTER = []

    # Precision of SOLVER.AMP.ENABLED: "float16" (Detectron2's, with loss scaling) or "bfloat16"
    # (without), on any device; most CPUs emulate float16, ten times slower than float32.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Evaluate under autocast, in SOLVER.AMP.DTYPE; decoding and NMS stay in float32.
    cfg.TEST.AMP = CfgNode({"ENABLED": False})

    # Keep so many of the newest periodic checkpoints (SOLVER.CHECKPOINT_PERIOD); None: all. The
    # best and the final model do not count. In a LazyConfig: train.checkpointer.max_to_keep.
    cfg.SOLVER.CHECKPOINT_MAX_TO_KEEP = None

    # Write a checkpoint also when the last one is so many minutes old: one file, which the next
    # checkpoint removes. None: by SOLVER.CHECKPOINT_PERIOD only. In a LazyConfig:
    # train.checkpointer.minutes.
    cfg.SOLVER.CHECKPOINT_MINUTES = 10.0

    # Micro-batches into which a process's batch is cut, for less memory. They go through the model
    # one after the other; the optimizer takes one step, with the gradient of all of
    # SOLVER.IMS_PER_BATCH, so learning rate and schedule stay. Batch norm sees one micro-batch at a
    # time. Other meta-architectures than FocalRetinaNet get the mean of the losses over images.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Decay, for instance 0.999, of an exponential moving average of the weights that each iteration
    # updates. It is evaluated in the place of the weights, and saved as model_final_ema.pth. None:
    # no average.
    cfg.SOLVER.EMA_DECAY = None

    # With each evaluation the losses on DATASETS.TEST, unaugmented: val_loss_cls and so on.
    cfg.TEST.VAL_LOSS = False
    cfg.TEST.BEST = CfgNode()
    # Save the weights of the best evaluation as model_best.pth. The name of the metric is that in
    # metrics.json: "bbox/AP", "val_total_loss", ... None: do not.
    cfg.TEST.BEST.METRIC = None
    # Whether the best is the "max" or the "min".
    cfg.TEST.BEST.MODE = "max"
    # End the run after so many evaluations (TEST.EVAL_PERIOD) in a row without a better metric;
    # None: never.
    cfg.TEST.BEST.PATIENCE = None
