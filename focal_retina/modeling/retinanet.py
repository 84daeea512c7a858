"""FocalRetinaNet: the paper's detector, from its parts (paper Fig. 3)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import Boxes
from torch import Tensor, nn

from focal_retina.acceleration.convolution import fast_convolutions
from focal_retina.acceleration.folding import folded_in_each_forward
from focal_retina.config import focal_retina_node, has_background_logit
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.classification import build_classification_loss
from focal_retina.modeling.head import FocalRetinaHead
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.monitor import TrainingMonitor
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.postprocess import DetectionPostprocessor
from focal_retina.modeling.preprocess import ImagePreprocessor
from focal_retina.modeling.selection import build_example_selection
from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.registry import register


@register(META_ARCH_REGISTRY)
class FocalRetinaNet(nn.Module):
    """RetinaNet from built parts; parameters have the names of Detectron2's ``RetinaNet``.

    Any Detectron2 RetinaNet config builds it once ``MODEL.META_ARCHITECTURE`` is
    "FocalRetinaNet", and loads that model's checkpoints unconverted.

    Args:
        backbone: features by name.
        head: from L features to (logits, deltas).
        anchor_generator: from L features to L ``Boxes``.
        assigner: from anchors (R, 4) and objects to an ``Assignment``.
        loss: from logits, deltas, anchors and assignment to named losses.
        postprocessor: from anchors, logits and deltas to detections.
        preprocessor: from the data loader's dicts to one batch.
        num_classes: K, which head, assigner, loss and postprocessor were built with.
        head_in_features: names of the backbone's features the head sees, fine to coarse;
            None for all.
        monitor: what training writes to the event storage; None for nothing.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        anchor_generator: nn.Module,
        assigner: Callable,
        loss: nn.Module,
        postprocessor: Callable,
        preprocessor: ImagePreprocessor,
        num_classes: int,
        head_in_features: Sequence[str] | None = None,
        monitor: TrainingMonitor | None = None,
    ):
        super().__init__()
        _check_divisibility(preprocessor.size_divisibility, backbone.size_divisibility)
        _check_features(head_in_features or (), backbone)
        self.backbone = backbone
        self.head = head
        self.anchor_generator = anchor_generator
        self.assigner = assigner
        self.loss = loss
        self.postprocessor = postprocessor
        self.preprocessor = preprocessor
        self.num_classes = num_classes
        shapes = backbone.output_shape()
        self.head_in_features = head_in_features or sorted(shapes, key=lambda f: shapes[f].stride)
        self.monitor = monitor
        if preprocessor.channels_last:
            self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        # An unavailable backend is an error now, not at the first batch.
        resolve_backend(focal_retina_node(cfg).BACKEND, torch.device(cfg.MODEL.DEVICE))
        backbone = build_backbone(cfg)
        num_classes = cfg.MODEL.RETINANET.NUM_CLASSES
        head_in_features = cfg.MODEL.RETINANET.IN_FEATURES
        _check_features(head_in_features, backbone)
        shapes = [backbone.output_shape()[f] for f in head_in_features]
        head = FocalRetinaHead(
            cfg, shapes, num_classes=num_classes, background_logit=has_background_logit(cfg)
        )
        if focal_retina_node(cfg).COMPILE:
            backbone.compile()
            head.compile()
        return {
            "backbone": backbone,
            "head": head,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "assigner": AnchorAssigner(cfg),
            "loss": FocalRetinaLoss(
                cfg,
                build_classification_loss(cfg),
                LossNormalizer(cfg),
                build_example_selection(cfg),
            ),
            "postprocessor": DetectionPostprocessor(cfg),
            "preprocessor": ImagePreprocessor(cfg),
            "num_classes": num_classes,
            "head_in_features": head_in_features,
            "monitor": TrainingMonitor(cfg.VIS_PERIOD, cfg.INPUT.FORMAT),
        }

    @property
    def device(self) -> torch.device:
        return self.preprocessor.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Return losses by name in training, else one ``{"instances": Instances}`` per image.

        Args:
            batched_inputs: what Detectron2's ``DatasetMapper`` makes: "image" (C, H, W); in
                training "instances" with ``gt_boxes`` and ``gt_classes``; at test optionally the
                output's "height" and "width" in pixels.
        """
        images = self.preprocessor(batched_inputs, self.backbone)
        with self._fast_on_cpu():
            features = self.backbone(images.tensor)
            features = [features[f] for f in self.head_in_features]
            logits, deltas = self.head(features)
        anchors = self.anchor_generator(features)
        if self.training:
            return self.losses(batched_inputs, images, anchors, logits, deltas)
        detections = self.postprocessor(anchors, logits, deltas, images.image_sizes)
        return [
            {"instances": _resize(d, x)} for d, x in zip(detections, batched_inputs, strict=True)
        ]

    @contextlib.contextmanager
    def _fast_on_cpu(self) -> Iterator[None]:
        """What makes a pass forward on a CPU faster, and differ from Detectron2's by rounding."""
        is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if self.preprocessor.channels_last and self.device.type == "cpu" and not is_recorded:
            with fast_convolutions(), folded_in_each_forward(self.backbone):
                yield
        else:
            yield

    def losses(self, batched_inputs, images, anchors: list[Boxes], logits, deltas):
        """Return the named losses of a batch, and let the monitor see it."""
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        lattice = AnchorLattice.of(self.anchor_generator, [x.shape[-2:] for x in logits])
        all_anchors = Boxes.cat(anchors).tensor
        assignment = self.assigner(all_anchors, gt_instances, lattice)
        if self.monitor is not None:
            self.monitor.write_scalars(assignment, batched_inputs)
            if self.monitor.wants_picture():
                first = [[x[:1] for x in per_level] for per_level in (logits, deltas)]
                detections = self.postprocessor(anchors, *first, images.image_sizes[:1])[0]
                self.monitor.write_picture(batched_inputs[0], all_anchors, assignment, detections)
        return self.loss(logits, deltas, all_anchors, assignment)


def _check_features(names: Sequence[str], backbone: Backbone) -> None:
    known = backbone.output_shape()
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"head_in_features (MODEL.RETINANET.IN_FEATURES) has {unknown[0]}, but the backbone "
            f"has {', '.join(known)}"
        )


def _check_divisibility(asked: int, needed: int) -> None:
    if asked and needed and asked % needed:
        raise ValueError(
            f"size_divisibility (MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY) is {asked}; the backbone "
            f"needs a multiple of {needed}, or 0 for its own"
        )


def _resize(detections, inputs: dict):
    """Scale detections from the network's input to the size asked for."""
    height, width = detections.image_size
    return detector_postprocess(
        detections, inputs.get("height", height), inputs.get("width", width)
    )
