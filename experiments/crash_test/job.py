"""A training of seconds that has everything a resume can get wrong."""

from pathlib import Path

from focal_retina.data.shapes import write_shapes

_CONFIGS = Path(__file__).parents[2] / "configs"

# Random sizes and flips, batch norm, a running normaliser, momentum, a warm-up, evaluations and
# checkpoints in the same iterations and in others, smoothed metrics, pruning.
# Of 8 channels, PyTorch's backward of a strided 1x1 convolution crashes in channels-last order.
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
    - [torture_train, {train}/instances.json, {train}/images]
    - [torture_val, {val}/instances.json, {val}/images]
  TRAIN: [torture_train]
  TEST: [torture_val]
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


def write_job(folder: Path, iterations: int, workers: int) -> Path:
    """Draw the images, if they are not there, and write the config; return its file."""
    splits = {
        split: write_shapes(folder / "shapes", split, count, image_size=64)
        for split, count in (("train", 22), ("val", 6))
    }
    path = folder / f"workers{workers}.yaml"
    path.write_text(
        _YAML.format(
            configs=_CONFIGS,
            iterations=iterations,
            step=iterations * 2 // 3,
            workers=workers,
            **splits,
        )
    )
    return path
