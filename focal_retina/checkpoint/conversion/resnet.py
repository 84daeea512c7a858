"""ImageNet's ResNets of torchvision and timm, which use the same names, as a backbone."""

from focal_retina.checkpoint.conversion import common

NAMES = common.resnet_names("")
KNOWN_BY = {"conv1.weight", "layer1.0.conv1.weight"}
DROPPED = r"^fc\.|num_batches_tracked$"


def convert(weights: dict, checkpoint: dict) -> common.Conversion:
    """Convert the backbone alone; FPN and head then start at random."""
    note = "took ImageNet's pixel mean and standard deviation; some of timm's models have others"
    return common.Conversion(
        common.rename_all(weights, NAMES, DROPPED), dict(common.RGB), None, [note]
    )
