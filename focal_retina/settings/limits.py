"""What each setting may be, for YAML and LazyConfig: checked before anything is built.

Our parts check their own arguments. This table has what Detectron2 and PyTorch would fail at deep
inside, run on with, or run out of memory with.
"""

from collections.abc import Mapping
from math import inf

from detectron2.config import CfgNode
from omegaconf import DictConfig

from focal_retina.settings.flat_keys import ABSENT, value_of
from focal_retina.settings.rules import (
    Rule,
    ascending,
    each,
    either,
    function,
    number,
    one_of,
    optional,
    positive,
    text,
    whole,
)

_SHARE = number(0, 1)
_CHANNELS = whole(1, 8192)
_LEVELS = each(positive, least=1)
_NORMS = one_of(
    *("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
)
_MULTIPLE_OF_8 = Rule(
    "a multiple of 8 from 8 to 8192", lambda width: _CHANNELS.allows(width) and width % 8 == 0
)

# Keys, in capitals those of YAML, in small letters those of a LazyConfig -> what they may be.
_TABLE = {
    "DATASETS.PROPOSAL_FILES_TRAIN DATASETS.PROPOSAL_FILES_TEST": each(text),
    "MODEL.FPN.IN_FEATURES model.backbone.in_features": each(text),
    "MODEL.RETINANET.IN_FEATURES model.head_in_features": each(text, least=1),
    "MODEL.RESNETS.OUT_FEATURES": each(one_of("stem", "res2", "res3", "res4", "res5"), least=1),
    """
    SOLVER.NUM_DECAYS INPUT.MAX_SIZE_TRAIN INPUT.MAX_SIZE_TEST MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE
    DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
    MODEL.RETINANET.TOPK_CANDIDATES_TEST model.postprocessor.topk_candidates TEST.AUG.MAX_SIZE
    TEST.PRECISE_BN.NUM_ITER
    """: whole(1),
    """
    SOLVER.WARMUP_ITERS SOLVER.REFERENCE_WORLD_SIZE VIS_PERIOD model.monitor.vis_period
    MODEL.BACKBONE.FREEZE_AT model.backbone.bottom_up.freeze_at
    """: whole(0),
    "SOLVER.STEPS": ascending(each(whole(1))),
    "SEED train.seed": whole(-1, 2**32 - 2**16),  # NumPy's; each process adds its number
    "MODEL.RETINANET.NUM_CLASSES model.num_classes": whole(1, 100_000),
    "INPUT.MIN_SIZE_TRAIN": each(whole(0, 100_000), least=1),  # 0: Detectron2 does not resize
    "INPUT.MIN_SIZE_TEST": whole(0, 100_000),
    "TEST.AUG.MIN_SIZES": each(whole(1, 100_000), least=1),
    "MODEL.RETINANET.NUM_CONVS": whole(0, 100),
    """
    DATALOADER.NUM_WORKERS dataloader.train.num_workers dataloader.test.num_workers
    """: whole(0, 1000),
    "MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE model.anchor_generator.scales_per_octave": whole(1, 100),
    "MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY model.preprocessor.size_divisibility": whole(0, 8192),
    """
    MODEL.FPN.OUT_CHANNELS model.backbone.out_channels
    MODEL.FOCAL_RETINA.REGNET.STEM_WIDTH MODEL.FOCAL_RETINA.REGNET.GROUP_WIDTH
    """: _CHANNELS,
    "model.head.conv_dims": each(_CHANNELS),
    "MODEL.FOCAL_RETINA.REGNET.W_0": _MULTIPLE_OF_8,
    "MODEL.FOCAL_RETINA.REGNET.DEPTH": whole(1, 1000),
    "MODEL.FOCAL_RETINA.REGNET.W_A": number(0, 1000),
    "MODEL.FOCAL_RETINA.REGNET.W_M": number(above=1, most=100),
    """
    MODEL.RETINANET.SCORE_THRESH_TEST model.postprocessor.score_thresh
    MODEL.RETINANET.NMS_THRESH_TEST model.postprocessor.nms_thresh
    MODEL.FOCAL_RETINA.REGNET.SE_RATIO MODEL.FOCAL_RETINA.OHEM_NMS_THRESH
    SOLVER.WARMUP_FACTOR lr_multiplier.warmup_factor
    """: _SHARE,
    """
    MODEL.FOCAL_RETINA.SCORE_THRESH_TEST_LAST_LEVEL model.postprocessor.score_thresh_last_level
    """: optional(_SHARE),
    "MODEL.RETINANET.IOU_LABELS model.assigner.labels": each(one_of(-1, 0, 1)),
    "MODEL.RETINANET.PRIOR_PROB model.head.prior_prob": number(above=0, below=1),
    "MODEL.FOCAL_RETINA.CLASS_ALPHA": each(_SHARE),
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": number(most=1),  # below 0: off
    """
    SOLVER.MOMENTUM optimizer.momentum model.loss.normalizer.momentum
    MODEL.ANCHOR_GENERATOR.OFFSET model.anchor_generator.offset
    """: number(0, below=1),
    """
    MODEL.RETINANET.FOCAL_LOSS_GAMMA model.loss.cls_loss.gamma DATALOADER.REPEAT_THRESHOLD
    MODEL.RETINANET.SMOOTH_L1_LOSS_BETA model.loss.smooth_l1_beta
    MODEL.FOCAL_RETINA.NORMALIZER_OFFSET model.loss.normalizer.offset
    SOLVER.WEIGHT_DECAY optimizer.weight_decay SOLVER.BASE_LR_END SOLVER.BIAS_LR_FACTOR
    """: number(0, 1e6),
    """
    SOLVER.WEIGHT_DECAY_NORM optimizer.params.weight_decay_norm
    SOLVER.WEIGHT_DECAY_BIAS optimizer.params.weight_decay_bias
    """: optional(number(0, 1e6)),
    "SOLVER.GAMMA SOLVER.CLIP_GRADIENTS.CLIP_VALUE model.loss.normalizer.start": positive,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": either(positive, one_of(inf)),
    "MODEL.FOCAL_RETINA.FOCAL_STAR_BETA model.loss.cls_loss.beta": number(-1e6, 1e6),
    "MODEL.PIXEL_MEAN model.preprocessor.pixel_mean": each(number(-1e6, 1e6), least=1),
    "MODEL.PIXEL_STD model.preprocessor.pixel_std": each(positive, least=1),
    "INPUT.CROP.SIZE": each(positive, length=2),
    "TEST.KEYPOINT_OKS_SIGMAS": each(positive),
    """
    MODEL.RETINANET.BBOX_REG_WEIGHTS model.loss.box2box_transform.weights
    model.postprocessor.box2box_transform.weights
    """: each(positive, length=4),
    """
    MODEL.ANCHOR_GENERATOR.SIZES model.anchor_generator.base_sizes
    MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS model.anchor_generator.aspect_ratios
    """: either(_LEVELS, each(_LEVELS, least=1)),
    "MODEL.ANCHOR_GENERATOR.ANGLES": each(each(number(-360, 360)), least=1),
    """
    MODEL.RETINANET.IOU_THRESHOLDS model.assigner.thresholds
    """: ascending(each(number(above=0, most=1), least=1)),
    """
    MODEL.FPN.NORM MODEL.RETINANET.NORM MODEL.RESNETS.NORM MODEL.FOCAL_RETINA.REGNET.NORM
    """: _NORMS,
    """
    model.backbone.norm model.backbone.bottom_up.stem.norm model.backbone.bottom_up.stages.norm
    model.head.norm
    """: either(_NORMS, function),
    "MODEL.RESNETS.DEPTH model.backbone.bottom_up.stages.depth": one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": one_of(1, 2),
    "MODEL.FPN.FUSE_TYPE model.backbone.fuse_type": one_of("sum", "avg"),
    "INPUT.FORMAT": one_of("BGR", "RGB", "L", "YUV-BT.601"),
    "INPUT.MASK_FORMAT": one_of("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
    "INPUT.RANDOM_FLIP": one_of("none", "horizontal", "vertical"),
    "INPUT.CROP.TYPE": one_of("relative_range", "relative", "absolute", "absolute_range"),
    "SOLVER.WARMUP_METHOD lr_multiplier.warmup_method": one_of("constant", "linear"),
    "SOLVER.LR_SCHEDULER_NAME": one_of(
        *("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
    ),
    # Not RandomSubsetTrainingSampler: Detectron2 reads its ratio from a key that it does not have.
    "DATALOADER.SAMPLER_TRAIN": one_of("TrainingSampler", "RepeatFactorTrainingSampler"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE train.clip_gradients.clip_type": one_of("value", "norm"),
}
_RULES = {key: rule for keys, rule in _TABLE.items() for key in keys.split()}


def check_limits(cfg: CfgNode | DictConfig) -> None:
    """Raise a UserError at the first key that breaks its rule."""
    for key, rule in _RULES.items():
        value = value_of(cfg, key, ABSENT)
        # A call in a LazyConfig is checked by what it calls.
        if value is not ABSENT and not isinstance(value, Mapping):
            rule.check(key, value)
