"""Convert a checkpoint of another project, and write the config that goes with it.

    python -m focal_retina.tools.convert_checkpoint retinanet_resnet50_fpn_coco-eeacb38b.pth \\
        output/retinanet.pth
    python train_net.py --config-file output/retinanet.yaml --eval-only
    python -m focal_retina.tools.convert_checkpoint output/retinanet.pth back.pth --to torchvision

It takes the RetinaNets of Detectron2, Detectron (.pkl), torchvision and mmdetection, and as a
backbone ImageNet's ResNets of torchvision and timm. No code in the file is run.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from focal_retina.checkpoint.conversion.common import NORM_EPS, Conversion
from focal_retina.checkpoint.conversion.sources import SOURCES, convert
from focal_retina.checkpoint.conversion.to_torchvision import to_torchvision
from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.errors import UserError, reports_errors
from focal_retina.files import output, save_atomically
from focal_retina.settings.flat_keys import nested_keys
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.tools.command_line import add_config_arguments, share, tool_parser

_BACKGROUND = {None: None, "yes": True, "no": False}
# Start of the SHA-256 of torchvision's COCO_V1, whose batch norms have an epsilon of 0.
_COCO_V1 = "eeacb38b"


@reports_errors("convert_checkpoint")
def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return 0, or 2 after one sentence on what is wrong."""
    args = parse_arguments(argv)
    if not args.target.endswith(".pth"):
        raise UserError(f"the target {args.target} must end in .pth")
    checkpoint = read_checkpoint(args.source)
    given = {"norm_eps": args.norm_eps, "background": _BACKGROUND[args.background]}
    options = {key: value for key, value in given.items() if value is not None}
    if is_coco_v1(args.source):
        options = {"norm_eps": 0.0, **options}
    try:
        conversion = convert(checkpoint, args.kind, **options)
    except UserError as error:
        raise UserError(f"{args.source}: {error}") from error
    if args.to == "torchvision":
        write_torchvision(conversion, args)
    else:
        write(conversion, args.target, args.source)
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = tool_parser("convert_checkpoint", __doc__)
    parser.add_argument("source", help=".pth, .pkl or .safetensors")
    parser.add_argument("target", help="a .pth; the config is written beside it, as .yaml")
    parser.add_argument(
        "--from", dest="kind", choices=SOURCES, help="recognised by the names otherwise"
    )
    parser.add_argument("--to", choices=("focal_retina", "torchvision"), default="focal_retina")
    add_config_arguments(
        parser, help="of the source, for --to torchvision (the source's name with .yaml)"
    )
    parser.add_argument(
        "--norm-eps",
        type=share(),
        help="epsilon of torchvision's batch norms: 0 for a model fine-tuned from COCO_V1, which "
        f"itself is recognised ({NORM_EPS})",
    )
    parser.add_argument(
        "--background",
        choices=("yes", "no"),
        help="whether the first class of torchvision's model is background (yes if there are 91)",
    )
    return parser.parse_args(argv)


def is_coco_v1(source: str) -> bool:
    with open(source, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest().startswith(_COCO_V1)


def save(content: dict, target: str, inputs: Sequence[str]) -> None:
    """Write a checkpoint and make its folder; raise a UserError if that is not possible."""
    with output(target, inputs) as unfinished:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        save_atomically(content, unfinished)


def write(conversion: Conversion, target: str, source: str) -> None:
    """Write the weights, with the names of their classes, and the config beside them."""
    config_file = Path(target).with_suffix(".yaml")
    config = nested_keys({**conversion.config, "MODEL.WEIGHTS": target})
    notes = "".join(f"# Note: {note}.\n" for note in conversion.notes)
    text = notes + yaml.safe_dump(config, sort_keys=False)
    if config_file.exists() and config_file.read_bytes() != text.encode():
        raise UserError(f"{config_file} is there with other content: name another target")
    content = {"model": conversion.weights, "class_names": conversion.class_names}
    with output(config_file, [source]) as unfinished:
        config_file.parent.mkdir(parents=True, exist_ok=True)
        Path(unfinished).write_text(text, encoding="utf-8")
        save(content, target, [source])
    for note in conversion.notes:
        print(f"note: {note}")
    print(f"{len(conversion.weights)} weights: {target}\nconfig: {config_file}")


def write_torchvision(conversion: Conversion, args: argparse.Namespace) -> None:
    config_file = args.config_file or str(Path(args.source).with_suffix(".yaml"))
    cfg = load_yaml(config_file, trust_config=args.trust_config)
    weights, call = to_torchvision(conversion.weights, cfg, conversion.class_names)
    save(weights, args.target, [args.source, config_file])
    print(f"{len(weights)} weights: {args.target}\nfor torchvision.models.detection.{call}")


if __name__ == "__main__":
    sys.exit(main())
