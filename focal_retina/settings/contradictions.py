"""Settings of a YAML config that are fine alone, but not together."""

from detectron2.config import CfgNode

from focal_retina.errors import UserError


def check_contradictions(cfg: CfgNode) -> None:
    """Raise a UserError at the first settings that cannot go together."""
    _check_input(cfg)
    _check_model(cfg)
    _check_solver(cfg.SOLVER)


def _check_input(cfg: CfgNode) -> None:
    sizes, crop = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            raise UserError(
                f"MODEL.{key} has {len(cfg.MODEL[key])} numbers, but INPUT.FORMAT "
                f"{cfg.INPUT.FORMAT} has {channels} channels: give one number for each"
            )
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2:
        raise UserError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}, but with INPUT.MIN_SIZE_TRAIN_SAMPLING range it "
            "must be the least and the largest size"
        )
    if crop.TYPE.startswith("relative") and max(crop.SIZE) > 1:
        raise UserError(
            f"INPUT.CROP.SIZE is {crop.SIZE}, but with INPUT.CROP.TYPE {crop.TYPE} it is a share "
            "of the image, of at most 1"
        )
    if crop.TYPE == "absolute_range" and crop.SIZE[0] > crop.SIZE[1]:
        raise UserError(
            f"INPUT.CROP.SIZE is {crop.SIZE}, but with INPUT.CROP.TYPE absolute_range it must be "
            "the least and the largest size"
        )


def _check_model(cfg: CfgNode) -> None:
    resnets, channels = cfg.MODEL.RESNETS, cfg.MODEL.FPN.OUT_CHANNELS
    # Detectron2 asserts these while it builds a ResNet.
    small = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
    for name, value in {**small, "DEFORM_ON_PER_STAGE": [False] * 4}.items():
        if resnets.DEPTH <= 34 and resnets[name] != value:
            raise UserError(
                f"MODEL.RESNETS.{name} is {resnets[name]}, but a ResNet of MODEL.RESNETS.DEPTH "
                f"{resnets.DEPTH} needs {value}"
            )
    for node in ("FPN", "RETINANET"):
        if cfg.MODEL[node].NORM == "GN" and channels % 32:
            raise UserError(
                f"MODEL.{node}.NORM is GN, whose groups are 32, but MODEL.FPN.OUT_CHANNELS is "
                f"{channels}: set it to a multiple of 32"
            )


def _check_solver(solver: CfgNode) -> None:
    schedule, world_size = solver.LR_SCHEDULER_NAME, solver.REFERENCE_WORLD_SIZE
    if schedule == "WarmupMultiStepLR" and solver.MAX_ITER in solver.STEPS:
        raise UserError(
            f"SOLVER.STEPS has {solver.MAX_ITER}, the end at SOLVER.MAX_ITER: leave it out"
        )
    if schedule == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        raise UserError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, above SOLVER.BASE_LR, {solver.BASE_LR}: "
            "WarmupCosineLR goes down"
        )
    if solver.NESTEROV and not solver.MOMENTUM:
        raise UserError("SOLVER.NESTEROV needs a SOLVER.MOMENTUM above 0")
    if world_size and solver.IMS_PER_BATCH % world_size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, which does not divide among the "
            f"{world_size} GPUs of SOLVER.REFERENCE_WORLD_SIZE"
        )
