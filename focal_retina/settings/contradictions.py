"""Settings of a YAML config that are fine alone, but not together."""

from collections.abc import Iterator

from detectron2.config import CfgNode

from focal_retina.errors import UserError


def check_contradictions(cfg: CfgNode) -> None:
    """Raise a UserError at the first pair of settings that cannot go together."""
    for sentences in (_pixels(cfg), _sizes(cfg), _resnet(cfg), _model(cfg), _solver(cfg)):
        for sentence in sentences:
            raise UserError(sentence)


def _pixels(cfg: CfgNode) -> Iterator[str]:
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            yield (
                f"MODEL.{key} has {len(cfg.MODEL[key])} numbers, but INPUT.FORMAT "
                f"{cfg.INPUT.FORMAT} has {channels} channels: give one number for each"
            )


def _sizes(cfg: CfgNode) -> Iterator[str]:
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        yield (
            f"INPUT.MIN_SIZE_TRAIN is {cfg.INPUT.MIN_SIZE_TRAIN}, but with "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING range it must be the least and the largest size"
        )
    crop = cfg.INPUT.CROP
    if crop.TYPE.startswith("relative") and max(crop.SIZE) > 1:
        yield (
            f"INPUT.CROP.SIZE is {crop.SIZE}, but with INPUT.CROP.TYPE {crop.TYPE} it is a share "
            "of the image, of at most 1"
        )
    if crop.TYPE == "absolute_range" and crop.SIZE[0] > crop.SIZE[1]:
        yield (
            f"INPUT.CROP.SIZE is {crop.SIZE}, but with INPUT.CROP.TYPE absolute_range it must be "
            "the least and the largest size"
        )


def _resnet(cfg: CfgNode) -> Iterator[str]:
    """What Detectron2 asserts while it builds a ResNet."""
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH > 34:
        return
    wanted = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
    for name, value in {**wanted, "DEFORM_ON_PER_STAGE": [False] * 4}.items():
        if resnets[name] != value:
            yield (
                f"MODEL.RESNETS.{name} is {resnets[name]}, but a ResNet of MODEL.RESNETS.DEPTH "
                f"{resnets.DEPTH} needs {value}"
            )


def _model(cfg: CfgNode) -> Iterator[str]:
    retinanet, channels = cfg.MODEL.RETINANET, cfg.MODEL.FPN.OUT_CHANNELS
    for key, norm in (("FPN.NORM", cfg.MODEL.FPN.NORM), ("RETINANET.NORM", retinanet.NORM)):
        if norm == "GN" and channels % 32:
            yield (
                f"MODEL.{key} is GN, whose groups are 32, but MODEL.FPN.OUT_CHANNELS is "
                f"{channels}: set it to a multiple of 32"
            )


def _solver(cfg: CfgNode) -> Iterator[str]:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and solver.MAX_ITER in solver.STEPS:
        yield f"SOLVER.STEPS has {solver.MAX_ITER}, the end at SOLVER.MAX_ITER: leave it out"
    if solver.NESTEROV and not solver.MOMENTUM:
        yield "SOLVER.NESTEROV needs a SOLVER.MOMENTUM above 0"
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        yield (
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, above SOLVER.BASE_LR, {solver.BASE_LR}: "
            "WarmupCosineLR goes down"
        )
    world_size = solver.REFERENCE_WORLD_SIZE
    if world_size and solver.IMS_PER_BATCH % world_size:
        yield (
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, which does not divide among the "
            f"{world_size} GPUs of SOLVER.REFERENCE_WORLD_SIZE"
        )
