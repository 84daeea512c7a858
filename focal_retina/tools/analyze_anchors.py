"""Say which objects of a dataset get no anchor, and which anchors would fit them better.

    python -m focal_retina.tools.analyze_anchors --config-file X.yaml
    python -m focal_retina.tools.analyze_anchors --config-file X.yaml --dataset cells_train \\
        --held-out cells_val DATASETS.REGISTER "[['cells_train', 'train.json', 'images'], ...]"

Writes into --output:
- report.md: the best IoU of every object with any anchor, by size and aspect ratio, and the objects
  of --max-images images that training would match with no foreground anchor;
- anchors.png: the same as a plot;
- proposal.yaml: a config with anchors that are better in one respect and worse in none, or the
  config's own if none were found.
Each image is resized once, as INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN say; a choice of sizes is
drawn from --seed. Crops and flips are left out.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from detectron2.config import CfgNode

from focal_retina import files
from focal_retina.anchor_analysis.anchor_config import AnchorConfig
from focal_retina.anchor_analysis.fit import AnchorFit, measure_fit
from focal_retina.anchor_analysis.objects import Objects, load_objects
from focal_retina.anchor_analysis.report import examples, fit_table, plot_fits
from focal_retina.anchor_analysis.search import propose, starting_shapes
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.engine import job
from focal_retina.errors import UserError, reports_errors
from focal_retina.settings.flat_keys import nested_keys
from focal_retina.terminal import printable
from focal_retina.tools import command_line as cli


@reports_errors("analyze_anchors")
def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 after one sentence on what is wrong."""
    args = parse_arguments(argv)
    analyze(args, cli.make_output_folder(args.output))
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.tool_parser("analyze_anchors", __doc__)
    cli.add_config_arguments(parser, required=True, help="YAML")
    parser.add_argument("--dataset", help="used instead of DATASETS.TRAIN")
    parser.add_argument("--held-out", help="used instead of DATASETS.TEST")
    parser.add_argument("--output", default="output/anchors", help="folder (output/anchors)")
    parser.add_argument("--no-proposal", action="store_true", help="report only")
    parser.add_argument("--scales-per-octave", type=cli.count(), help="how many to propose")
    parser.add_argument("--aspect-ratios", type=cli.count(), help="how many to propose")
    parser.add_argument("--max-images", type=cli.count(), default=1000, help="to label (1000)")
    parser.add_argument("--max-objects", type=cli.count(), default=2000, help="to fit (2000)")
    parser.add_argument("--generations", type=cli.count(), default=60, help="of the search (60)")
    parser.add_argument("--seed", type=cli.count(0), default=0, help="of all chance (0)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def analyze(args: argparse.Namespace, output: Path) -> None:
    """Write and print the report, the plot and the proposal."""
    cfg = load_config(args)
    names = "report.md", "anchors.png", "proposal.yaml"
    cli.refuse_inputs(output, names, cli.files_read(args.config_file))
    config = AnchorConfig.of(cfg)
    starts = starting_shapes(config, args.scales_per_octave, args.aspect_ratios)
    np.random.seed(args.seed)  # Detectron2's augmentations draw from this generator
    objects = load(cfg, cfg.DATASETS.TRAIN)
    labelled = objects.sample_images(args.max_images, args.seed)
    fits = [measure_fit(objects, config, labelled)]
    if not args.no_proposal:
        search = {"max_objects": args.max_objects, "generations": args.generations}
        proposed = propose(objects, config, *fits, starts, **search, seed=args.seed)
        fits += [proposed] if proposed is not fits[0] else []

    thresholds = config.rule.thresholds
    report = [section(cfg.DATASETS.TRAIN, objects, fits, thresholds)]
    if lines := [f"- {line}" for line in examples(objects, fits[0])]:
        report.append("\n".join(["Without a foreground anchor, the worst first:", "", *lines]))
    held_out = [name for name in cfg.DATASETS.TEST if name not in cfg.DATASETS.TRAIN]
    if held_out:
        others = load(cfg, held_out)
        labelled = others.sample_images(args.max_images, args.seed)
        measured = [measure_fit(others, config, labelled, x.shapes) for x in fits]
        report.append(section(held_out, others, measured, thresholds))
    if not args.no_proposal:
        report.append(write_proposal(args, fits, output / "proposal.yaml"))
    write_text(output / "report.md", "\n\n".join(report) + "\n")
    drawn = [(x, config.build_generator(x.shapes)) for x in fits]
    named = dict(zip(("configured", "proposed"), drawn, strict=False))
    with files.output(output / "anchors.png") as unfinished:
        plot_fits(objects, named, thresholds, unfinished)
    print(printable("\n\n".join([*report, f"{output}/report.md, {output}/anchors.png"])))


def load_config(args: argparse.Namespace) -> CfgNode:
    """Return the config with its datasets registered."""
    opts = list(args.opts)
    for key, name in (("TRAIN", args.dataset), ("TEST", args.held_out)):
        opts += [f"DATASETS.{key}", repr((name,))] if name else []
    return job.load(args.config_file, opts, trust_config=args.trust_config).cfg


def load(cfg: CfgNode, names: Sequence[str]) -> Objects:
    """Return the objects at the size of training; raise a UserError if there are none."""
    keys = cfg.INPUT
    resize = ResizeShortestEdge(
        keys.MIN_SIZE_TRAIN, keys.MAX_SIZE_TRAIN, keys.MIN_SIZE_TRAIN_SAMPLING
    )
    objects = load_objects(names, resize)
    if not len(objects):
        raise UserError(f"{', '.join(names)}: no object in {len(objects.file_names)} images")
    return objects


def section(
    names: Sequence[str], objects: Objects, fits: list[AnchorFit], thresholds: Sequence[float]
) -> str:
    """Return the table of some datasets under a line that says what it is about."""
    about = f"{len(objects.file_names)} images, {len(objects)} objects"
    if objects.num_crowds or objects.num_empty:
        about += (
            f"; left out, as in training: {objects.num_crowds} crowds, {objects.num_empty} boxes "
            "without area in the image"
        )
    images = len(objects.image_idxs.unique())
    labelled = len(objects.image_idxs[fits[0].is_labelled].unique())
    about += f". Labelled as in training: {labelled} of {images} images with objects"
    about += ", a random sample" if labelled < images else ""
    about += ". Configured → proposed" if len(fits) > 1 else ""
    return f"## {', '.join(names)}\n\n{about}.\n\n{fit_table(objects, fits, thresholds)}"


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8; UserError if it cannot be."""
    with files.output(path) as unfinished:
        Path(unfinished).write_text(text, "utf-8", "backslashreplace")


def write_proposal(args: argparse.Namespace, fits: list[AnchorFit], path: Path) -> str:
    """Write a config with the anchors of the last fit, and return it for the report."""
    base = Path(args.config_file).resolve()
    sizes, aspect_ratios, scales_per_octave = fits[-1].shapes
    keys = {
        "_BASE_": os.path.relpath(base, path.resolve().parent),
        "MODEL.ANCHOR_GENERATOR.SIZES": sizes,
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": aspect_ratios,
        "MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE": scales_per_octave,
    }
    text = yaml.safe_dump(nested_keys(keys), sort_keys=False, default_flow_style=None)
    write_text(path, f"# Keys given on the command line are not in here.\n{text}")
    found = "Proposed"
    if len(fits) == 1:
        found = "No anchors were better in one respect and worse in none; those of the config"
    return f"{found} ({path}):\n\n```yaml\n{text}```"


if __name__ == "__main__":
    sys.exit(main())
