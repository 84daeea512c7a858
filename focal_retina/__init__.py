"""The RetinaNet of "Focal Loss for Dense Object Detection" as a Detectron2 plug-in.

Importing this package registers its parts into Detectron2:

    META_ARCH_REGISTRY          FocalRetinaNet
    PROPOSAL_GENERATOR_REGISTRY FocalProposalGenerator
    RPN_HEAD_REGISTRY           FocalRetinaHead
    ANCHOR_GENERATOR_REGISTRY   OctaveAnchorGenerator, TorchvisionAnchorGenerator
    BACKBONE_REGISTRY           build_focal_retina_resnet_fpn_backbone,
                                build_focal_retina_regnet_fpn_backbone,
                                build_focal_retina_timm_fpn_backbone
"""

from focal_retina._detectron2 import require_detectron2

require_detectron2()

from focal_retina.config import add_focal_retina_config  # noqa: E402
from focal_retina.modeling.anchors import OctaveAnchorGenerator, TorchvisionAnchorGenerator  # noqa: E402
from focal_retina.modeling.backbones import build_focal_retina_resnet_fpn_backbone  # noqa: E402
from focal_retina.modeling.head import FocalRetinaHead  # noqa: E402
from focal_retina.modeling.proposals import FocalProposalGenerator  # noqa: E402
from focal_retina.modeling.retinanet import FocalRetinaNet  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "FocalProposalGenerator",
    "FocalRetinaHead",
    "FocalRetinaNet",
    "OctaveAnchorGenerator",
    "TorchvisionAnchorGenerator",
    "add_focal_retina_config",
    "build_focal_retina_resnet_fpn_backbone",
]
