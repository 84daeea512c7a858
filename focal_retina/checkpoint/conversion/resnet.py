"""ImageNet's ResNets of torchvision and timm, which use the same names, as a backbone."""

from focal_retina.checkpoint.conversion.weights import RGB, Conversion, rename_all, resnet_names

NAMES = resnet_names("")
DROPPED = r"^fc\.|num_batches_tracked$"


def recognise(names: set[str]) -> bool:
    return {"conv1.weight", "layer1.0.conv1.weight"} <= names


def convert(weights: dict, checkpoint: dict) -> Conversion:
    """Convert the backbone alone; FPN and head then start at random."""
    note = "took ImageNet's pixel mean and standard deviation; some of timm's models have others"
    return Conversion(rename_all(weights, NAMES, DROPPED), dict(RGB), None, [note])
