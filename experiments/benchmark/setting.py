"""The sizes of what is measured."""

from dataclasses import dataclass

from focal_retina.errors import UserError

STRIDES = (8, 16, 32, 64, 128)
NUM_ANCHORS = 9


@dataclass(frozen=True)
class Setting:
    """Sizes of the benchmark's inputs and models.

    Args:
        device: "cpu" or "cuda".
        height, width: of the images, in pixels, above 128.
        depth: of the ResNet.
        num_classes: K.
        num_objects: objects per image, of the labelling cases.
        batch_size: images per batch, of the throughput cases; all others have one image.
        num_evaluation_images: of the evaluation case, with 100 detections each.
        scaling_objects, scaling_sides, scaling_classes: ascending values of the three series.

    Raises:
        UserError: the images are too small.
    """

    device: str = "cpu"
    height: int = 800
    width: int = 1216
    depth: int = 50
    num_classes: int = 80
    num_objects: tuple[int, ...] = (20, 200, 1000)
    batch_size: int = 16
    num_evaluation_images: int = 1250
    scaling_objects: tuple[int, ...] = (1, 10, 100, 1000, 5000)
    scaling_sides: tuple[int, ...] = (400, 600, 800, 1067, 1333)
    scaling_classes: tuple[int, ...] = (1, 3, 10, 30, 80, 300, 1203)

    def __post_init__(self):
        # With a level of one cell, Detectron2's in-place sigmoid would change the logits given.
        if min(self.height, self.width) <= STRIDES[-1]:
            raise UserError(
                f"the image is {self.height} x {self.width} pixels; give sides above "
                f"{STRIDES[-1]}, the stride of the coarsest level"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def grid_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each level of features, of images padded to a multiple of 32 pixels."""
        height, width = (-(-side // 32) * 32 for side in self.image_size)
        return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]

    @property
    def total_anchors(self) -> int:
        """R."""
        return sum(height * width * NUM_ANCHORS for height, width in self.grid_sizes)


QUICK = Setting(
    height=160,
    width=192,
    depth=18,
    num_classes=8,
    batch_size=2,
    num_evaluation_images=8,
    scaling_objects=(1, 10),
    scaling_sides=(160,),
    scaling_classes=(1, 8),
)
