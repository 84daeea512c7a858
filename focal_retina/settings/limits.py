"""What each setting may be, for YAML and LazyConfig: checked before anything is built.

Our parts check their own arguments; this table also knows what Detectron2 and PyTorch would fail at
deep inside, run on with, or run out of memory with.
"""

from collections.abc import Mapping
from math import inf

from focal_retina.modeling.classification import CLS_LOSSES
from focal_retina.modeling.losses import BOX_REG_LOSSES
from focal_retina.modeling.normalizer import NORMALIZERS
from focal_retina.modeling.selection import SELECTIONS
from focal_retina.ops.matching.match_anchors import LOW_QUALITY_MATCHES
from focal_retina.settings.rules import (
    ascending,
    each,
    either,
    flag,
    function,
    multiple,
    nothing,
    number,
    one_of,
    row,
    text,
    whole,
)

_POSITIVE = number(above=0, most=1e6)
_SHARE = number(0, 1)
_CHANNELS = whole(1, 8192)
_LEVELS = each(_POSITIVE, least=1)
_NORMS = one_of(
    *("", "BN", "SyncBN", "FrozenBN", "GN", "LN"),
    *("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"),
)

# A rule, and the keys that obey it: in capitals those of YAML, in small letters those of a
# LazyConfig.
_TABLE = (
    (flag, "train.amp.enabled train.amp.test"),
    (text, "OUTPUT_DIR train.output_dir MODEL.WEIGHTS train.init_checkpoint"),
    (text, "MODEL.DEVICE train.device"),
    (each(text), "DATASETS.TRAIN DATASETS.TEST"),
    (each(text), "DATASETS.PROPOSAL_FILES_TRAIN DATASETS.PROPOSAL_FILES_TEST"),
    (each(text), "MODEL.FPN.IN_FEATURES model.backbone.in_features"),
    (each(one_of("stem", "res2", "res3", "res4", "res5"), least=1), "MODEL.RESNETS.OUT_FEATURES"),
    (each(text, least=1), "MODEL.RETINANET.IN_FEATURES model.head_in_features"),
    (
        whole(1),
        """
        SOLVER.MAX_ITER                             train.max_iter
        SOLVER.CHECKPOINT_PERIOD                    train.checkpointer.period
        SOLVER.NUM_DECAYS                           train.log_period
        INPUT.MAX_SIZE_TRAIN                        INPUT.MAX_SIZE_TEST
        DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN    DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
        MODEL.RETINANET.TOPK_CANDIDATES_TEST        model.postprocessor.topk_candidates
        MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE          model.loss.example_selection.batch_size
        TEST.DETECTIONS_PER_IMAGE                   model.postprocessor.max_detections
        TEST.AUG.MAX_SIZE                           TEST.PRECISE_BN.NUM_ITER
        """,
    ),
    (
        whole(0),
        """
        SOLVER.WARMUP_ITERS     SOLVER.REFERENCE_WORLD_SIZE
        TEST.EVAL_PERIOD        train.eval_period
        VIS_PERIOD              model.monitor.vis_period
        MODEL.BACKBONE.FREEZE_AT                    model.backbone.bottom_up.freeze_at
        """,
    ),
    (either(nothing, whole(1)), "train.checkpointer.max_to_keep"),
    (ascending(each(whole(1))), "SOLVER.STEPS"),
    (whole(-1, 2**32 - 2**16), "SEED train.seed"),  # NumPy's; each process adds its number
    (whole(1, 100_000), "SOLVER.IMS_PER_BATCH dataloader.train.total_batch_size"),
    (whole(1, 100_000), "MODEL.RETINANET.NUM_CLASSES model.num_classes"),
    (each(whole(0, 100_000), least=1), "INPUT.MIN_SIZE_TRAIN"),  # 0: Detectron2 does not resize
    (whole(0, 100_000), "INPUT.MIN_SIZE_TEST"),
    (each(whole(1, 100_000), least=1), "TEST.AUG.MIN_SIZES"),
    (whole(0, 100), "MODEL.RETINANET.NUM_CONVS"),
    (
        whole(0, 1000),
        "DATALOADER.NUM_WORKERS dataloader.train.num_workers dataloader.test.num_workers",
    ),
    (
        whole(1, 100),
        "MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE model.anchor_generator.scales_per_octave",
    ),
    (
        whole(0, 8192),
        "MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY model.preprocessor.size_divisibility",
    ),
    (
        _CHANNELS,
        """
        MODEL.FPN.OUT_CHANNELS                      model.backbone.out_channels
        MODEL.FOCAL_RETINA.REGNET.STEM_WIDTH        MODEL.FOCAL_RETINA.REGNET.GROUP_WIDTH
        """,
    ),
    (each(_CHANNELS), "model.head.conv_dims"),
    (multiple(of=8, most=8192), "MODEL.FOCAL_RETINA.REGNET.W_0"),
    (whole(1, 1000), "MODEL.FOCAL_RETINA.REGNET.DEPTH"),
    (number(0, 1000), "MODEL.FOCAL_RETINA.REGNET.W_A"),
    (number(above=1, most=100), "MODEL.FOCAL_RETINA.REGNET.W_M"),
    (
        _SHARE,
        """
        MODEL.RETINANET.SCORE_THRESH_TEST           model.postprocessor.score_thresh
        MODEL.RETINANET.NMS_THRESH_TEST             model.postprocessor.nms_thresh
        MODEL.FOCAL_RETINA.OHEM_NMS_THRESH          model.loss.example_selection.nms_thresh
        MODEL.FOCAL_RETINA.REGNET.SE_RATIO
        SOLVER.WARMUP_FACTOR                        lr_multiplier.warmup_factor
        """,
    ),
    (
        either(nothing, _SHARE),
        "MODEL.FOCAL_RETINA.SCORE_THRESH_TEST_LAST_LEVEL "
        "model.postprocessor.score_thresh_last_level",
    ),
    (each(_SHARE), "MODEL.FOCAL_RETINA.CLASS_ALPHA"),
    (number(most=1), "MODEL.RETINANET.FOCAL_LOSS_ALPHA"),  # below 0: off
    (number(above=0, below=1), "MODEL.RETINANET.PRIOR_PROB model.head.prior_prob"),
    (
        number(above=0, most=1),
        "MODEL.FOCAL_RETINA.HINGE_THRESHOLD model.loss.cls_loss.threshold",
    ),
    (
        number(0, below=1),
        """
        SOLVER.MOMENTUM                             optimizer.momentum
        model.loss.normalizer.momentum
        MODEL.ANCHOR_GENERATOR.OFFSET               model.anchor_generator.offset
        """,
    ),
    (
        number(0, 1e6),
        """
        MODEL.RETINANET.FOCAL_LOSS_GAMMA            model.loss.cls_loss.gamma
        MODEL.RETINANET.SMOOTH_L1_LOSS_BETA         model.loss.smooth_l1_beta
        MODEL.FOCAL_RETINA.NORMALIZER_OFFSET        model.loss.normalizer.offset
        SOLVER.BASE_LR_END                          SOLVER.BIAS_LR_FACTOR
        SOLVER.WEIGHT_DECAY                         optimizer.weight_decay
        DATALOADER.REPEAT_THRESHOLD
        """,
    ),
    (
        either(nothing, number(0, 1e6)),
        """
        SOLVER.WEIGHT_DECAY_NORM                    optimizer.params.weight_decay_norm
        SOLVER.WEIGHT_DECAY_BIAS                    optimizer.params.weight_decay_bias
        """,
    ),
    (
        _POSITIVE,
        """
        SOLVER.BASE_LR                              optimizer.lr
        SOLVER.GAMMA                                SOLVER.CLIP_GRADIENTS.CLIP_VALUE
        model.loss.normalizer.start
        """,
    ),
    (either(_POSITIVE, one_of(inf)), "SOLVER.CLIP_GRADIENTS.NORM_TYPE"),
    (number(-1e6, 1e6), "MODEL.FOCAL_RETINA.FOCAL_STAR_BETA model.loss.cls_loss.beta"),
    (each(number(-1e6, 1e6), least=1), "MODEL.PIXEL_MEAN model.preprocessor.pixel_mean"),
    (each(_POSITIVE, least=1), "MODEL.PIXEL_STD model.preprocessor.pixel_std"),
    (each(_POSITIVE, length=2), "INPUT.CROP.SIZE"),
    (each(_POSITIVE), "TEST.KEYPOINT_OKS_SIGMAS"),
    (
        each(_POSITIVE, length=4),
        """
        MODEL.RETINANET.BBOX_REG_WEIGHTS            model.loss.box2box_transform.weights
        model.postprocessor.box2box_transform.weights
        """,
    ),
    (
        either(_LEVELS, each(_LEVELS, least=1)),
        """
        MODEL.ANCHOR_GENERATOR.SIZES                model.anchor_generator.base_sizes
        MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS        model.anchor_generator.aspect_ratios
        """,
    ),
    (each(each(number(-360, 360)), least=1), "MODEL.ANCHOR_GENERATOR.ANGLES"),
    (
        ascending(each(number(above=0, most=1), least=1)),
        "MODEL.RETINANET.IOU_THRESHOLDS model.assigner.thresholds",
    ),
    (each(one_of(-1, 0, 1), least=2), "MODEL.RETINANET.IOU_LABELS model.assigner.labels"),
    (each(row(text, text, number(), number())), "TEST.EXPECTED_RESULTS"),
    (_NORMS, "MODEL.FPN.NORM MODEL.RETINANET.NORM MODEL.RESNETS.NORM"),
    (_NORMS, "MODEL.FOCAL_RETINA.REGNET.NORM"),
    (
        either(_NORMS, function),
        """
        model.backbone.norm                         model.backbone.bottom_up.stem.norm
        model.head.norm                             model.backbone.bottom_up.stages.norm
        """,
    ),
    (one_of(18, 34, 50, 101, 152), "MODEL.RESNETS.DEPTH model.backbone.bottom_up.stages.depth"),
    (one_of("sum", "avg"), "MODEL.FPN.FUSE_TYPE model.backbone.fuse_type"),
    (
        one_of(*BOX_REG_LOSSES),
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE model.loss.box_reg_loss_type",
    ),
    (
        one_of("auto", "reference", "torch", "triton"),
        """
        MODEL.FOCAL_RETINA.BACKEND                  model.loss.backend
        model.assigner.backend                      model.postprocessor.backend
        """,
    ),
    (one_of("c5", "p5"), "MODEL.FOCAL_RETINA.P6_FROM"),
    (
        one_of(*LOW_QUALITY_MATCHES),
        "MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES model.assigner.low_quality_matches",
    ),
    (one_of(*NORMALIZERS), "MODEL.FOCAL_RETINA.NORMALIZER model.loss.normalizer.kind"),
    (one_of(*CLS_LOSSES), "MODEL.FOCAL_RETINA.CLS_LOSS"),
    (one_of(*SELECTIONS), "MODEL.FOCAL_RETINA.EXAMPLE_SELECTION"),
    (one_of("anchors", "boxes"), "MODEL.FOCAL_RETINA.OHEM_NMS_OVER"),
    (one_of("image", "batch"), "MODEL.FOCAL_RETINA.OHEM_SCOPE"),
    (one_of("examples", "foreground"), "MODEL.FOCAL_RETINA.OHEM_NORMALIZER"),
    (one_of("BGR", "RGB", "L", "YUV-BT.601"), "INPUT.FORMAT"),
    (one_of("polygon", "bitmask"), "INPUT.MASK_FORMAT"),
    (one_of("choice", "range"), "INPUT.MIN_SIZE_TRAIN_SAMPLING"),
    (one_of("none", "horizontal", "vertical"), "INPUT.RANDOM_FLIP"),
    (one_of("relative_range", "relative", "absolute", "absolute_range"), "INPUT.CROP.TYPE"),
    (one_of("constant", "linear"), "SOLVER.WARMUP_METHOD lr_multiplier.warmup_method"),
    (one_of("value", "norm"), "SOLVER.CLIP_GRADIENTS.CLIP_TYPE"),
    (one_of("float16", "bfloat16"), "SOLVER.AMP.DTYPE train.amp.dtype"),
)
RULES = {key: rule for rule, keys in _TABLE for key in keys.split()}


def check_limits(settings: Mapping[str, object]) -> None:
    """Raise a ValueError at the first of these settings, by dotted key, that breaks its rule."""
    for key, value in settings.items():
        if key in RULES:
            RULES[key].check(key, value)
