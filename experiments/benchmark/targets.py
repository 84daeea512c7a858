"""What this package sets out to reach, as data."""

from dataclasses import dataclass

# Ratios too belong to a kind of machine and to sizes.
CONDITIONS = "2 CPU cores with bf16 arithmetic, images of 800 x 1216 pixels, ResNet-50, 80 classes"


@dataclass(frozen=True)
class Target:
    """A bound on one quantity of a contestant of ours.

    Args:
        group, case, ours: the contestant's.
        against: the contestant of the case that it is compared with; "" for none.
        quantity: "speedup", "memory ratio", "memory, MiB", or "time share".
        bound: the least speedup, the most of everything else.
    """

    group: str
    case: str
    ours: str
    against: str
    quantity: str
    bound: float

    def is_reached(self, measured: float) -> bool:
        if self.quantity == "speedup":
            return measured >= self.bound
        return measured <= self.bound


_D2, _D2_FP32, _D2_BF16 = "Detectron2", "Detectron2 fp32", "Detectron2 bf16"
_OURS, _OURS_FP32, _OURS_BF16 = "focal_retina", "focal_retina fp32", "focal_retina bf16"
_COPY = "limit: copy of the logits"
_STEP, _IMAGE, _COCO = "step, 1 image", "1 image", "100 detections per image"

TARGETS = (
    Target("loss", "from head outputs", _OURS, _D2, "speedup", 35),
    # The copy is as large as the gradient.
    Target("loss", "from head outputs", _OURS, _COPY, "memory ratio", 1.1),
    Target("labelling", "objects: 20", _OURS, _D2, "speedup", 20),
    Target("labelling", "objects: 200", _OURS, _D2, "speedup", 100),
    Target("labelling", "objects: 1000", _OURS, _D2, "speedup", 100),
    Target("labelling", "objects: 1000", _OURS, "", "memory, MiB", 40),
    Target("box-loss", "400 foreground anchors", _OURS, _D2, "speedup", 3),
    Target("post-processing", "candidates: typical", _OURS, _D2, "speedup", 3),
    Target("post-processing", "candidates: many", _OURS, _D2, "speedup", 1),
    Target("post-processing", "candidates: very many", _OURS, _D2, "speedup", 1),
    Target("training", _STEP, _OURS_FP32, _D2_FP32, "speedup", 1.8),
    Target("training", _STEP, _OURS_BF16, _D2_FP32, "speedup", 3.8),
    Target("training", _STEP, _OURS_BF16, _D2_BF16, "speedup", 2.2),
    Target("training", _STEP, _OURS_FP32, _D2_FP32, "memory ratio", 0.55),
    Target("training", _STEP, _OURS_BF16, _D2_FP32, "memory ratio", 0.36),
    Target("inference", _IMAGE, _OURS_FP32, _D2_FP32, "speedup", 1.45),
    Target("inference", _IMAGE, _OURS_BF16, _D2_FP32, "speedup", 2.9),
    Target("share", "outside convolutions", _OURS_FP32, "", "time share", 0.04),
    Target("evaluation", _COCO, "faster-coco-eval", "pycocotools", "speedup", 10),
)
