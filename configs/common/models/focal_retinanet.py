"""FocalRetinaNet with Detectron2's choices: takes the place of common/models/retinanet.py."""

from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.box_regression import Box2BoxTransform

from focal_retina import FocalRetinaHead, FocalRetinaNet, OctaveAnchorGenerator
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.classification import SigmoidFocalLoss
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.monitor import TrainingMonitor
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.postprocess import DetectionPostprocessor
from focal_retina.modeling.preprocess import ImagePreprocessor

model = L(FocalRetinaNet)(
    backbone=L(FPN)(
        bottom_up=L(ResNet)(
            stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
            stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
            out_features=["res3", "res4", "res5"],
            freeze_at=2,
        ),
        in_features=["res3", "res4", "res5"],
        out_channels=256,
        top_block=L(LastLevelP6P7)(in_channels=2048, out_channels="${..out_channels}"),
    ),
    head=L(FocalRetinaHead)(
        input_shape=[ShapeSpec(channels=256)] * 5,
        num_classes="${..num_classes}",
        num_anchors=9,
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
    ),
    anchor_generator=L(OctaveAnchorGenerator)(
        base_sizes=[[32], [64], [128], [256], [512]],
        scales_per_octave=3,
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64, 128],
        offset=0.0,
    ),
    assigner=L(AnchorAssigner)(
        num_classes="${..num_classes}",
        thresholds=[0.4, 0.5],
        labels=[0, -1, 1],
        low_quality_matches="detectron2",
    ),
    loss=L(FocalRetinaLoss)(
        cls_loss=L(SigmoidFocalLoss)(num_classes="${...num_classes}", alpha=0.25, gamma=2.0),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        normalizer=L(LossNormalizer)(kind="ema"),
        example_selection=None,
        smooth_l1_beta=0.0,
    ),
    postprocessor=L(DetectionPostprocessor)(
        num_classes="${..num_classes}",
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        score_thresh=0.05,
        topk_candidates=1000,
        nms_thresh=0.5,
        max_detections=100,
    ),
    preprocessor=L(ImagePreprocessor)(
        pixel_mean=[103.530, 116.280, 123.675],
        pixel_std=[1.0, 1.0, 1.0],
        input_format="BGR",
    ),
    num_classes=80,
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    monitor=L(TrainingMonitor)(vis_period=0, input_format="${..preprocessor.input_format}"),
)
