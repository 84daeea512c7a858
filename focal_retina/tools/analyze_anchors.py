"""Say which objects of a data set get no anchor, and which anchors would cover it better.

    python -m focal_retina.tools.analyze_anchors --config-file X.yaml
    python -m focal_retina.tools.analyze_anchors --config-file X.yaml --dataset cells_train \\
        --held-out cells_val DATASETS.REGISTER "[['cells_train', 'train.json', 'images'], ...]"

Writes into --output: report.md, the best IoU of every object with any anchor, by size and aspect
ratio, and objects that no foreground anchor is matched with; coverage.png; and proposal.yaml, a
config with anchors that are better on one count and worse on none, or the config's own if none were
found. Each image is resized once, as INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN say; where they leave
a choice, it is drawn as in training, from --seed. Crops and flips are left out.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from detectron2.config import CfgNode

from focal_retina.anchor_analysis.measuring import Coverage, measure_coverage
from focal_retina.anchor_analysis.objects import Objects, load_objects
from focal_retina.anchor_analysis.picture import draw_coverage
from focal_retina.anchor_analysis.proposal import propose, starting_shapes
from focal_retina.anchor_analysis.report import coverage_table, examples
from focal_retina.anchor_analysis.setting import AnchorSetting
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.engine import job
from focal_retina.errors import reports_errors
from focal_retina.tools.command_line import tool_parser


@reports_errors("analyze_anchors")
def main(argv: list[str] | None = None) -> int:
    """Return 0, or 2 after one sentence on what is wrong."""
    args = parse_arguments(argv)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    analyze(args, output)
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("analyze_anchors", __doc__)
    parser.add_argument("--config-file", required=True, help="YAML")
    parser.add_argument("--dataset", help="in the place of DATASETS.TRAIN")
    parser.add_argument("--held-out", help="in the place of DATASETS.TEST")
    parser.add_argument("--output", default="output/anchors", help="folder (output/anchors)")
    parser.add_argument("--no-proposal", action="store_true", help="report only")
    parser.add_argument("--scales-per-octave", type=int, help="how many to propose")
    parser.add_argument("--aspect-ratios", type=int, help="how many to propose")
    parser.add_argument("--max-objects", type=int, default=2000, help="to search with (2000)")
    parser.add_argument("--generations", type=int, default=60, help="of the search (60)")
    parser.add_argument("--seed", type=int, default=0, help="of sizes, sample and search (0)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def analyze(args: argparse.Namespace, output: Path) -> None:
    """Write and print the report, the picture and the proposal."""
    if args.max_objects < 1 or args.generations < 1:
        raise ValueError(
            f"--max-objects is {args.max_objects}, --generations {args.generations}: "
            "at least 1 each"
        )
    cfg = load_config(args)
    setting = AnchorSetting.from_config(cfg)
    starts = starting_shapes(setting, args.scales_per_octave, args.aspect_ratios)
    np.random.seed(args.seed)  # which Detectron2's augmentations draw from
    objects = load(cfg, cfg.DATASETS.TRAIN)
    coverages = [measure_coverage(objects, setting)]
    if not args.no_proposal:
        search = {"max_objects": args.max_objects, "generations": args.generations}
        coverages.append(propose(objects, setting, *coverages, starts, **search, seed=args.seed))
    is_better = coverages[-1] is not coverages[0]
    coverages = coverages if is_better else coverages[:1]

    report = [section(cfg.DATASETS.TRAIN, objects, coverages, setting)]
    report += ["\n".join(lines) for lines in [unmatched_lines(objects, coverages[0])] if lines]
    held_out = [name for name in cfg.DATASETS.TEST if name not in cfg.DATASETS.TRAIN]
    if held_out:
        others = load(cfg, held_out)
        measured = [measure_coverage(others, setting, x.shapes) for x in coverages]
        report.append(section(held_out, others, measured, setting))
    if not args.no_proposal:
        report.append(write_proposal(args, coverages[-1], is_better, output / "proposal.yaml"))
    (output / "report.md").write_text("\n\n".join(report) + "\n")
    drawn = [(x, setting.build(x.shapes)) for x in coverages]
    named = dict(zip(("configured", "proposed"), drawn, strict=False))
    draw_coverage(objects, named, setting.rule.thresholds, output / "coverage.png")
    print("\n\n".join([*report, f"{output}/report.md, {output}/coverage.png"]))


def load_config(args: argparse.Namespace) -> CfgNode:
    """Return the config with its datasets registered."""
    opts = list(args.opts)
    for key, name in (("TRAIN", args.dataset), ("TEST", args.held_out)):
        opts += [f"DATASETS.{key}", repr((name,))] if name else []
    return job.load(args.config_file, opts).cfg


def load(cfg: CfgNode, names: Sequence[str]) -> Objects:
    """Return the objects at training size; ValueError where there is none."""
    keys = cfg.INPUT
    resize = ResizeShortestEdge(
        keys.MIN_SIZE_TRAIN, keys.MAX_SIZE_TRAIN, keys.MIN_SIZE_TRAIN_SAMPLING
    )
    objects = load_objects(names, resize)
    if not len(objects):
        raise ValueError(f"{', '.join(names)}: no object in {len(objects.file_names)} images")
    return objects


def section(
    names: Sequence[str], objects: Objects, coverages: list[Coverage], setting: AnchorSetting
) -> str:
    """Return the table of some data sets under a line on what it is about."""
    about = f"{len(objects.file_names)} images, {len(objects)} objects"
    if objects.num_crowds or objects.num_empty:
        about += (
            f"; left out, as in training: {objects.num_crowds} crowds, {objects.num_empty} boxes "
            "without area in the image"
        )
    if len(coverages) > 1:
        about += ". Configured → proposed"
    table = coverage_table(objects, coverages, setting.rule.thresholds)
    return f"## {', '.join(names)}\n\n{about}.\n\n{table}"


def unmatched_lines(objects: Objects, coverage: Coverage) -> list[str]:
    """Return examples of objects without a foreground anchor, under a heading; or nothing."""
    lines = [f"- {line}" for line in examples(objects, coverage)]
    return ["Without a foreground anchor, the worst first:", "", *lines] if lines else []


def write_proposal(
    args: argparse.Namespace, coverage: Coverage, is_better: bool, path: Path
) -> str:
    """Write a config with the anchors of ``coverage``, and return it for the report."""
    base = Path(args.config_file).resolve()
    keys = {"_BASE_": os.path.relpath(base, path.resolve().parent), **coverage.shapes.as_config()}
    text = yaml.safe_dump(keys, sort_keys=False, default_flow_style=None)
    path.write_text(f"# Keys given on the command line are not in here.\n{text}")
    found = (
        "Proposed"
        if is_better
        else "No anchors were found that are better on one count and worse on none; the config's"
    )
    return f"{found} ({path}):\n\n```yaml\n{text}```"


if __name__ == "__main__":
    sys.exit(main())
