"""A detector of your own from the parts of focal_retina: python my_project.py"""

import torch
from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances

from focal_retina import FocalRetinaHead, OctaveAnchorGenerator
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.classification import SigmoidFocalLoss
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.postprocess import DetectionPostprocessor


class MyDetector(torch.nn.Module):
    def __init__(self, backbone, head, anchor_generator, assigner, loss, postprocessor):
        super().__init__()
        self.backbone, self.head, self.anchor_generator = backbone, head, anchor_generator
        self.assigner, self.loss, self.postprocessor = assigner, loss, postprocessor

    def forward(self, images, objects=None):
        features = [self.backbone(images)]
        logits, deltas = self.head(features)
        anchors = self.anchor_generator(features)
        if objects is None:
            return self.postprocessor(anchors, logits, deltas, [images.shape[-2:]] * len(images))
        anchors = Boxes.cat(anchors).tensor
        return self.loss(logits, deltas, anchors, self.assigner(anchors, objects))


transform = L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0])
model = L(MyDetector)(
    backbone=L(torch.nn.Conv2d)(in_channels=3, out_channels=16, kernel_size=8, stride=8),
    head=L(FocalRetinaHead)(
        input_shape=[ShapeSpec(channels=16)], num_classes=2, num_anchors=9, conv_dims=[16]
    ),
    anchor_generator=L(OctaveAnchorGenerator)(base_sizes=[[16]], strides=[8]),
    assigner=L(AnchorAssigner)(num_classes=2),
    loss=L(FocalRetinaLoss)(
        cls_loss=L(SigmoidFocalLoss)(num_classes=2),
        box2box_transform=transform,
        normalizer=L(LossNormalizer)(kind="image"),
    ),
    postprocessor=L(DetectionPostprocessor)(num_classes=2, box2box_transform=transform),
)
if __name__ == "__main__":
    torch.manual_seed(0)
    detector = instantiate(model)
    image = torch.nn.functional.pad(torch.ones(1, 3, 24, 24), (24, 16, 16, 24))  # a bright square
    square = Boxes(torch.tensor([[24.0, 16, 48, 40]]))
    objects = [Instances((64, 64), gt_boxes=square, gt_classes=torch.tensor([1]))]
    optimizer = torch.optim.Adam(detector.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        sum(detector(image, objects).values()).backward()
        optimizer.step()
    print(detector.eval()(image)[0][:1])
