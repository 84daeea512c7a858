"""Coverage as Markdown tables, with examples of objects that are not learned."""

from collections.abc import Iterator, Sequence

import torch
from tabulate import tabulate
from torch import Tensor

from focal_retina.anchor_analysis.measuring import Coverage
from focal_retina.anchor_analysis.objects import Objects

_RATIO_EDGES = {1 / 4: "1/4", 1 / 2: "1/2", 1.0: "1", 2.0: "2", 4.0: "4"}


def coverage_table(
    objects: Objects, coverages: Sequence[Coverage], thresholds: Sequence[float]
) -> str:
    """Return a table of all objects, and of those of each size and aspect ratio.

    Args:
        coverages: of the config's anchors, and, where there are any, of others: "before → after".
        thresholds: of the intervals of IoU to count, ascending.
    """
    rows = [
        [name, str(int(group.sum())), *_cells(coverages, group, thresholds)]
        for name, group in _groups(objects)
        if group.any()
    ]
    highest, *middle = reversed(thresholds)
    bounds = zip([*middle], thresholds[:0:-1], strict=True)
    intervals = [f"IoU ≥ {highest:g}", *(f"{low:g} to {high:g}" for low, high in bounds)]
    headers = ["objects", "number", "mean best IoU", *intervals, f"below {thresholds[0]:g}"]
    headers += ["without foreground anchor", "the same without low-quality matches"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _groups(objects: Objects) -> Iterator[tuple[str, Tensor]]:
    yield "all", torch.ones(len(objects), dtype=torch.bool)
    # COCO's, but by the box: its own are by the segmentation.
    yield "small (file, area < 32²)", objects.areas < 32**2
    yield "medium", (objects.areas >= 32**2) & (objects.areas < 96**2)
    yield "large (from 96²)", objects.areas >= 96**2
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).double().unbind(1)
    octaves = (width * height).sqrt().log2().floor()
    for octave in octaves.unique().tolist():
        yield f"{2**octave:g} to {2 ** (octave + 1):g} pixels (input, √area)", octaves == octave
    ratios = height / width
    previous = None
    for edge, name in _RATIO_EDGES.items():
        group = (ratios < edge) & (ratios >= (previous or 0))
        below = f"below {name}" if previous is None else f"{_RATIO_EDGES[previous]} to {name}"
        yield f"height/width {below}", group
        previous = edge
    yield f"height/width from {_RATIO_EDGES[previous]}", ratios >= previous


def _cells(
    coverages: Sequence[Coverage], group: Tensor, thresholds: Sequence[float]
) -> Iterator[str]:
    edges = torch.tensor(thresholds, dtype=torch.float64)
    columns = []
    for coverage in coverages:
        ious = coverage.ious[group]
        intervals = torch.bucketize(ious, edges, right=True)
        shares = intervals.bincount(minlength=len(thresholds) + 1) / len(ious)
        column = [
            f"{float(ious.mean()):.3f}",
            *(f"{100 * x:.1f}%" for x in shares.flip(0).tolist()),
        ]
        for unmatched in (coverage.unmatched, coverage.unmatched_without_low_quality):
            column.append(str(int(unmatched[group].sum())))
        columns.append(column)
    return (" → ".join(cells) for cells in zip(*columns, strict=True))


def examples(objects: Objects, coverage: Coverage, count: int = 10) -> list[str]:
    """Return a line for each of the worst covered objects without a foreground anchor."""
    unmatched = coverage.unmatched.nonzero().squeeze(1)
    worst = unmatched[coverage.ious[unmatched].argsort(stable=True)][:count]
    lines = []
    for index in worst.tolist():
        x0, y0, x1, y1 = objects.boxes[index].tolist()
        lines.append(
            f"{objects.file_names[int(objects.image_idxs[index])]}: annotation "
            f"{objects.annotation_ids[index]}, {x1 - x0:.1f} x {y1 - y0:.1f} pixels at the "
            f"network's input, best IoU {float(coverage.ious[index]):.3f}"
        )
    return lines
