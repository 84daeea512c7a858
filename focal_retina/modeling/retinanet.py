"""FocalRetinaNet: the paper's detector, from its parts (paper Fig. 3)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from focal_retina.acceleration import accelerated_forward
from focal_retina.config import focal_retina_node, has_background_logit
from focal_retina.detectron2_internals import Unscriptable
from focal_retina.errors import UserError
from focal_retina.modeling.assignment import NO_INSTANCES, AnchorAssigner, Assignment
from focal_retina.modeling.classification import build_classification_loss
from focal_retina.modeling.detectron2_names import Detectron2Names
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


class HeadOutputs(NamedTuple):
    """What the network says of N images, and of which boxes it says it."""

    anchors: list[Boxes]  # L x ``Boxes`` of length H*W*A, pixels
    logits: list[Tensor]  # L x (N, A*K, H, W)
    deltas: list[Tensor]  # L x (N, A*4, H, W)
    image_sizes: list[tuple[int, int]]  # N x (height, width) without padding, pixels


@register(META_ARCH_REGISTRY)
class FocalRetinaNet(Unscriptable, Detectron2Names):
    """RetinaNet from built parts; parameters have the names of Detectron2's ``RetinaNet``.

    Any Detectron2 RetinaNet config builds it once ``MODEL.META_ARCHITECTURE`` is
    "FocalRetinaNet", and loads that model's checkpoints unconverted. What projects read from that
    model has its names here too, see ``Detectron2Names``.

    Args:
        backbone: features by name.
        head: from L features to (logits, deltas).
        anchor_generator: from L features to L ``Boxes``.
        assigner: from anchors (R, 4) and objects to an ``Assignment``.
        loss: from logits, deltas, anchors and assignment to named losses.
        postprocessor: from the ``HeadOutputs`` to detections.
        preprocessor: from the data loader's dicts to one batch.
        num_classes: K, which head, assigner, loss and postprocessor were built with.
        head_in_features: names of the backbone's features the head sees, fine to coarse; None: all.
        monitor: what training writes to the event storage; None for nothing.
        cpu_acceleration: be faster on a CPU, up to rounding; see ``focal_retina.acceleration``.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        anchor_generator: nn.Module,
        assigner: Callable[..., Assignment],
        loss: FocalRetinaLoss,
        postprocessor: DetectionPostprocessor,
        preprocessor: ImagePreprocessor,
        num_classes: int,
        head_in_features: Sequence[str] | None = None,
        monitor: TrainingMonitor | None = None,
        cpu_acceleration: bool = True,
    ):
        super().__init__()
        # Refuse now what would fail at the first batch.
        preprocessor.divisibility(backbone)
        _level_shapes(backbone, head_in_features or ())
        self.backbone, self.head = backbone, head
        self.anchor_generator, self.assigner = anchor_generator, assigner
        self.loss, self.postprocessor = loss, postprocessor
        self.preprocessor, self.monitor = preprocessor, monitor
        self.num_classes, self.cpu_acceleration = num_classes, cpu_acceleration
        shapes = backbone.output_shape()
        self.head_in_features = head_in_features or sorted(shapes, key=lambda f: shapes[f].stride)
        if preprocessor.channels_last:
            for x in (*self.parameters(), *self.buffers()):
                if x.dim() == 4:  # the format has no other, and ``to`` takes those of five for it
                    x.data = x.data.contiguous(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = focal_retina_node(cfg)
        # An unavailable backend is an error now, not at the first batch.
        resolve_backend(node.BACKEND, torch.device(cfg.MODEL.DEVICE))
        backbone = build_backbone(cfg)
        num_classes = cfg.MODEL.RETINANET.NUM_CLASSES
        shapes = _level_shapes(backbone, cfg.MODEL.RETINANET.IN_FEATURES)
        head = FocalRetinaHead(
            cfg, shapes, num_classes=num_classes, background_logit=has_background_logit(cfg)
        )
        if node.COMPILE:
            backbone.compile()
            head.compile()
        return {
            "backbone": backbone,
            "head": head,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "assigner": AnchorAssigner(cfg),
            "loss": FocalRetinaLoss(
                cfg,
                cls_loss=build_classification_loss(cfg),
                normalizer=LossNormalizer(cfg),
                example_selection=build_example_selection(cfg),
            ),
            "postprocessor": DetectionPostprocessor(cfg),
            "preprocessor": ImagePreprocessor(cfg),
            "num_classes": num_classes,
            "head_in_features": cfg.MODEL.RETINANET.IN_FEATURES,
            "monitor": TrainingMonitor(cfg.VIS_PERIOD, cfg.INPUT.FORMAT),
            "cpu_acceleration": node.CPU_ACCELERATION,
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
        outputs = self.head_outputs(batched_inputs)
        if self.training:
            return self.losses(batched_inputs, outputs)
        pairs = zip(self.postprocessor(*outputs), batched_inputs, strict=True)
        return [{"instances": _resize(detections, inputs)} for detections, inputs in pairs]

    def head_outputs(self, batched_inputs: list[dict]) -> HeadOutputs:
        """Return what the network says of a batch; of each dict only the "image" is used."""
        images = self.preprocessor(batched_inputs, self.backbone)
        fast = accelerated_forward if self.cpu_acceleration else contextlib.nullcontext
        with fast(self.backbone):
            features = self.features(images.tensor)
            logits, deltas = self.head(features)
        return HeadOutputs(self.anchor_generator(features), logits, deltas, images.image_sizes)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return what the head sees, L x (N, C, H, W), of preprocessed images (N, C, H, W)."""
        features = self.backbone(images)
        return [features[f] for f in self.head_in_features]

    def losses(self, batched_inputs: list[dict], outputs: HeadOutputs) -> dict[str, Tensor]:
        """Return the named losses of a batch, and let the monitor see it."""
        anchors, assignment = self.assign(batched_inputs, outputs)
        if self.monitor is not None:
            self.monitor.write_scalars(assignment, batched_inputs)
            if self.monitor.wants_picture():
                of_first = outputs._replace(image_sizes=outputs.image_sizes[:1])
                detections = self.postprocessor(*of_first)[0]
                self.monitor.write_picture(batched_inputs[0], anchors, assignment, detections)
        return self.loss(outputs.logits, outputs.deltas, anchors, assignment)

    def assign(self, batched_inputs: list[dict], outputs: HeadOutputs) -> tuple[Tensor, Assignment]:
        """Return the anchors of all levels, (R, 4), and their labels and objects."""
        for inputs in batched_inputs:
            _check_objects(inputs, self.num_classes)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        grid_sizes = [(x.shape[2], x.shape[3]) for x in outputs.logits]
        lattice = AnchorLattice.of(self.anchor_generator, grid_sizes)
        anchors = Boxes.cat(outputs.anchors).tensor
        return anchors, self.assigner(anchors, gt_instances, lattice)

    @property
    def divides_by_foreground(self) -> bool:
        """Whether a ``LossNormalizer`` divides all losses, so that it may divide them later."""
        is_ours = isinstance(self.loss, FocalRetinaLoss)
        return is_ours and isinstance(self.loss.normalizer, LossNormalizer)

    def check_micro_batches(self) -> None:
        """See ``FocalRetinaLoss.check_micro_batches``."""
        self.loss.check_micro_batches()

    @contextlib.contextmanager
    def micro_batches(self, batches: Sequence[list[dict]]) -> Iterator[Callable[[], Tensor]]:
        """Inside this context, each call is for one of the micro-batches of a larger batch.

        The context gives the function of ``LossNormalizer.deferred``.
        """
        with (
            self.preprocessor.padded_as_one(batches),
            self.loss.normalizer.deferred() as correction,
        ):
            yield correction

    def loss_sums(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Return each loss as its sum and what divides it, see ``FocalRetinaLoss.sums``."""
        outputs = self.head_outputs(batched_inputs)
        return self.loss.sums(outputs.logits, outputs.deltas, *self.assign(batched_inputs, outputs))


def _level_shapes(backbone: Backbone, names: Sequence[str]) -> list[ShapeSpec]:
    known = backbone.output_shape()
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"head_in_features (MODEL.RETINANET.IN_FEATURES) has {unknown[0]}, but the backbone "
            f"has {', '.join(known)}"
        )
    return [known[name] for name in names]


def _check_objects(inputs: dict, num_classes: int) -> None:
    if "instances" not in inputs:
        raise UserError(NO_INSTANCES)
    # Before they are on a GPU, which would have to wait.
    for label in inputs["instances"].gt_classes.tolist():
        if label > num_classes:
            raise UserError(
                f"{inputs.get('file_name', 'an image')} has an object of class {label}; the model "
                f"has classes 0 to {num_classes - 1} (MODEL.RETINANET.NUM_CLASSES)"
            )


def _resize(detections: Instances, inputs: dict) -> Instances:
    """Scale detections from the network's input to the size asked for."""
    height, width = detections.image_size
    size = inputs.get("height", height), inputs.get("width", width)
    return detector_postprocess(detections, *size)
