"""Export a model, run the written file, and print how far it is from PyTorch.

    python -m focal_retina.tools.export --config-file output/config.yaml \\
        --weights output/model_final.pth --format onnx --output output/model.onnx

The file takes float32 images (N, 3, H, W), 0 to 255, which it normalises itself. N is any number;
H and W are any multiples of the network's stride (32). It gives boxes, scores, classes and
image_idxs, or with --raw the logits, deltas and anchors before NMS.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retina.errors import UserError, reports_errors
from focal_retina.evaluation.evaluate import evaluation_mode
from focal_retina.export.formats import EXPORTERS, ONNX_OPSET, largest_difference, load_exported
from focal_retina.export.modules import Detections, RawOutputs
from focal_retina.files import refuse_inputs
from focal_retina.inference.predictor import Predictor, read_picture
from focal_retina.modeling.retinanet import FocalRetinaNet
from focal_retina.terminal import printable
from focal_retina.tools.command_line import (
    add_detector_arguments,
    check_output_file,
    files_read,
    tool_parser,
)

# The file is for any device, but a compiled model is of this process alone.
_YAML_ON_CPU = ["MODEL.DEVICE", "cpu", "MODEL.FOCAL_RETINA.COMPILE", "False"]
_LAZY_ON_CPU = ["train.device=cpu"]


@reports_errors("export")
def main(argv: Sequence[str] | None = None) -> int:
    """Export and compare; return 0, or 2 for a user's mistake."""
    args = parse_arguments(argv)
    check_output_file(args.output)
    opts = args.opts + (_LAZY_ON_CPU if args.config_file.endswith(".py") else _YAML_ON_CPU)
    predictor = Predictor(args.config_file, args.weights, opts, trust_config=args.trust_config)
    if not isinstance(predictor.model, FocalRetinaNet):
        kind = type(predictor.model).__name__
        raise UserError(f"{args.config_file} is of a {kind}; only a FocalRetinaNet is exported")
    read = [predictor.weights, *args.images, *files_read(args.config_file)]
    refuse_inputs(args.output, read)
    module = (RawOutputs if args.raw else Detections)(predictor.model).eval()
    with torch.no_grad(), evaluation_mode(predictor.model):
        EXPORTERS[args.format](module, args.output)
        opset = f", opset {ONNX_OPSET}" if args.format == "onnx" else ""
        outputs = ", ".join(module.output_axes)
        print(printable(f"{args.output}: {args.format}{opset}; images -> {outputs}"))
        exported, worst = load_exported(args.format, args.output), 0.0
        for name, images in examples(predictor, args.images, module.size_divisibility):
            expected, found = module(images), exported(images)
            difference = largest_difference(expected, found)
            counts = "" if args.raw else f"{len(expected[0])} and {len(found[0])} detections, "
            said = f"{name} {tuple(images.shape)}: {counts}largest difference {difference:.2g}"
            print(printable(said))
            worst = max(worst, difference)
    print(f"largest difference to PyTorch: {worst:.2g}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = tool_parser("export", __doc__)
    add_detector_arguments(parser)
    parser.add_argument("--format", choices=EXPORTERS, default="onnx")
    parser.add_argument("--output", required=True, help="the file to write")
    parser.add_argument("--raw", action="store_true", help="the head's outputs, without NMS")
    parser.add_argument(
        "--images", nargs="+", default=[], help="pictures to compare on (noise of three sizes)"
    )
    return parser.parse_args(argv)


def examples(predictor: Predictor, paths: Sequence[str], unit: int) -> Iterator[tuple[str, Tensor]]:
    """Yield each picture as a batch of one, padded to multiples of ``unit``; or else noise."""
    for path in paths:
        image = predictor.network_input(read_picture(path))["image"].float()
        height, width = image.shape[1:]
        yield path, F.pad(image, (0, -width % unit, 0, -height % unit))[None]
    generator = torch.Generator().manual_seed(0)
    for count, height, width in () if paths else ((1, 4, 6), (2, 5, 3), (3, 7, 8)):
        shape = count, 3, unit * height, unit * width
        yield "noise", torch.rand(shape, generator=generator) * 255


if __name__ == "__main__":
    sys.exit(main())
