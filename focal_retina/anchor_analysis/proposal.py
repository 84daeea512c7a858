"""Anchors that cover objects better, found by differential evolution."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import differential_evolution
from torch import Tensor

from focal_retina.anchor_analysis.best_anchors import best_anchors
from focal_retina.anchor_analysis.measuring import Coverage, is_no_worse, measure_coverage, scores
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.anchor_analysis.setting import AnchorGrids, AnchorSetting, AnchorShapes

# How far sizes may move from where they start, and ratios from 1, in octaves.
_SIZE_RANGE, _RATIO_RANGE = 2.0, 3.0


def propose(
    objects: Objects,
    setting: AnchorSetting,
    configured: Coverage,
    starts: Sequence[AnchorShapes],
    *,
    max_objects: int,
    generations: int,
    seed: int,
) -> Coverage:
    """Return the best coverage found, never one that is worse than the config's on any count.

    Sought is the highest sum of :func:`scores`. None of them, nor the number of objects without a
    foreground anchor, may become worse; if nothing better is found, ``configured`` is returned.

    Args:
        configured: the coverage of ``objects`` by the config's anchors.
        starts: what to start from; numbers of sizes and ratios stay.
        max_objects: look at a sample of so many while searching.
        generations: at most so many of each start.
        seed: of the sample and the search.
    """
    sample = objects.sample(max_objects, seed)
    threshold = setting.foreground_threshold
    search = _Search(sample, setting)
    found = [search.run(start, generations, seed) for start in starts]
    for _, shapes in sorted(found, key=lambda x: x[0]):
        coverage = measure_coverage(objects, setting, shapes)
        is_better = not is_no_worse(configured, coverage, threshold)
        if is_better and is_no_worse(coverage, configured, threshold):
            return coverage
    return configured


def starting_shapes(
    setting: AnchorSetting, num_scales: int | None = None, num_ratios: int | None = None
) -> list[AnchorShapes]:
    """Return what to start from: of as many anchors per location as the config, unless told.

    Args:
        num_scales, num_ratios: scales per octave and aspect ratios, the config's if only the
            other is given. With neither, every pair of the same product is a start.

    Raises:
        ValueError: a number below 1, or a generator that has no octaves.
    """
    config = setting.shapes
    if (num_scales, num_ratios) == (None, None):
        return [config, *_other_factors(setting)]
    if not setting.has_octaves:
        raise ValueError(
            "--scales-per-octave and --aspect-ratios need MODEL.ANCHOR_GENERATOR.NAME "
            "OctaveAnchorGenerator"
        )
    num_scales = config.scales_per_octave if num_scales is None else num_scales
    num_ratios = len(config.aspect_ratios[0]) if num_ratios is None else num_ratios
    if num_scales < 1 or num_ratios < 1:
        raise ValueError(
            f"--scales-per-octave is {num_scales}, --aspect-ratios {num_ratios}: at least 1 each"
        )
    return [_spread(config, num_scales, num_ratios)]


def _other_factors(setting: AnchorSetting) -> Iterator[AnchorShapes]:
    config = setting.shapes
    numbers = {len(x) for x in config.sizes}, {len(x) for x in config.aspect_ratios}
    if not setting.has_octaves or numbers[0] != {1} or len(numbers[1]) > 1:
        return
    num_ratios = len(config.aspect_ratios[0])
    product = config.scales_per_octave * num_ratios
    for number in range(1, product + 1):
        if product % number == 0 and number != config.scales_per_octave:
            yield _spread(config, number, product // number)


def _spread(config: AnchorShapes, num_scales: int, num_ratios: int) -> AnchorShapes:
    """Return one size per level, the config's smallest, and ratios from 1/2 to 2."""
    ratios = np.geomspace(0.5, 2, num_ratios).tolist() if num_ratios > 1 else [1.0]
    return AnchorShapes([[min(level)] for level in config.sizes], [ratios], num_scales)


class _Search:
    def __init__(self, sample: Objects, setting: AnchorSetting):
        self.sample = sample
        self.setting = setting
        generator = setting.build(setting.shapes)
        self.grids = AnchorGrids.of_images(generator, sample.image_sizes, setting.divisibility)
        self.least = self.scores(setting.shapes)

    def run(self, start: AnchorShapes, generations: int, seed: int) -> tuple[float, AnchorShapes]:
        """Return the lowest cost and the shapes that have it."""
        vector = np.log2(np.concatenate([*start.sizes, *start.aspect_ratios]))
        num_sizes = sum(map(len, start.sizes))
        low, high = vector - _SIZE_RANGE, vector + _SIZE_RANGE
        low[num_sizes:] = np.minimum(vector[num_sizes:], -_RATIO_RANGE)
        high[num_sizes:] = np.maximum(vector[num_sizes:], _RATIO_RANGE)
        result = differential_evolution(
            lambda x: self.cost(_decode(x, start)),
            list(zip(low, high, strict=True)),
            x0=vector,
            maxiter=generations,
            popsize=8,
            polish=False,  # the thresholds make it a function of steps
            seed=np.random.default_rng(seed),
        )
        return float(result.fun), _decode(result.x, start)

    def cost(self, shapes: AnchorShapes) -> float:
        found = self.scores(shapes)
        return float(10 * (self.least - found).clamp(min=0).sum() - found.sum())

    def scores(self, shapes: AnchorShapes) -> Tensor:
        grids = AnchorGrids(self.setting.build(shapes), self.grids.grid_sizes)
        ious = best_anchors(self.sample, grids).ious
        return scores(ious, self.setting.foreground_threshold)


def _decode(vector: np.ndarray, like: AnchorShapes) -> AnchorShapes:
    """Return the shapes of a vector of logarithms, rounded for people."""
    numbers = iter((2**vector).tolist())
    sizes = [[round(next(numbers), 1) for _ in level] for level in like.sizes]
    ratios = [[round(next(numbers), 3) for _ in level] for level in like.aspect_ratios]
    return AnchorShapes(sizes, [sorted(level) for level in ratios], like.scales_per_octave)
