"""The config of a short training that has everything a resume can get wrong."""

from collections.abc import Sequence
from pathlib import Path

from focal_retina.data.shapes import write_shapes

_CONFIGS = Path(__file__).parents[2] / "configs"

# Random sizes and flips, batch norm, a running normaliser, momentum, a warm-up, evaluations and
# checkpoints in the same iterations and in others, smoothed metrics, old checkpoints removed.
# More than 8 channels: with 8, PyTorch's backward of a strided 1x1 convolution crashes in
# channels_last.
_YAML = """
_BASE_: {configs}/Base-FocalRetinaNet-detectron2.yaml
MODEL:
  WEIGHTS: ""
  BACKBONE: {{NAME: build_focal_retina_regnet_fpn_backbone, FREEZE_AT: 0}}
  FPN: {{IN_FEATURES: [s2, s3, s4], OUT_CHANNELS: 16}}
  RETINANET: {{NUM_CONVS: 1, SCORE_THRESH_TEST: 0.0, TOPK_CANDIDATES_TEST: 50}}
  FOCAL_RETINA:
    REGNET: {{STEM_WIDTH: 16, DEPTH: 5, W_A: 8.0, W_0: 16, W_M: 1.4, GROUP_WIDTH: 8, NORM: BN}}
DATASETS:
  REGISTER:
    - [crash_test_train, {train}/instances.json, {train}/images]
    - [crash_test_val, {val}/instances.json, {val}/images]
  TRAIN: [crash_test_train]
  TEST: [crash_test_val]
INPUT: {{MIN_SIZE_TRAIN: [48, 64, 80], MIN_SIZE_TEST: 64}}
DATALOADER: {{NUM_WORKERS: {workers}}}
SOLVER:
  IMS_PER_BATCH: 2
  BASE_LR: 0.00125
  WARMUP_ITERS: 10
  MAX_ITER: {iterations}
  STEPS: [{step}]
  CHECKPOINT_PERIOD: 5
  CHECKPOINT_MAX_TO_KEEP: 2
TEST: {{EVAL_PERIOD: 15}}
SEED: 3
"""


def write_configs(folder: Path, iterations: int, numbers_of_workers: Sequence[int]) -> None:
    """Draw the images, and write the config of each number of data workers, into a folder."""
    images = {
        split: write_shapes(folder / "shapes", split, num_images, image_size=64)
        for split, num_images in (("train", 22), ("val", 6))
    }
    for workers in numbers_of_workers:
        content = _YAML.format(
            configs=_CONFIGS,
            iterations=iterations,
            step=iterations * 2 // 3,
            workers=workers,
            **images,
        )
        config_file(folder, workers).write_text(content)


def config_file(folder: Path, workers: int) -> Path:
    """Return the path of the config with a number of data workers."""
    return folder / f"workers{workers}.yaml"
