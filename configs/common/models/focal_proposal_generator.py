"""FocalProposalGenerator: takes the place of ``model.proposal_generator`` in Detectron2's configs.

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.proposal_generator = proposal_generator
"""

from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform

from focal_retina import FocalProposalGenerator, FocalRetinaHead
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.classification import SigmoidFocalLoss
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.proposal_postprocess import ProposalPostprocessor

proposal_generator = L(FocalProposalGenerator)(
    in_features=["p2", "p3", "p4", "p5", "p6"],
    head=L(FocalRetinaHead)(
        input_shape=[ShapeSpec(channels=256)] * 5,
        num_classes=1,
        num_anchors=3,
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[32], [64], [128], [256], [512]],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[4, 8, 16, 32, 64],
        offset=0.0,
    ),
    assigner=L(AnchorAssigner)(
        num_classes=1,
        thresholds=[0.3, 0.7],
        labels=[0, -1, 1],
        low_quality_matches="detectron2",
    ),
    loss=L(FocalRetinaLoss)(
        cls_loss=L(SigmoidFocalLoss)(num_classes=1, alpha=0.25, gamma=2.0),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        normalizer=L(LossNormalizer)(kind="ema"),
        smooth_l1_beta=0.0,
    ),
    postprocessor=L(ProposalPostprocessor)(
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        pre_nms_topk=(2000, 1000),
        post_nms_topk=(1000, 1000),
        nms_thresh=0.7,
    ),
)
