"""Search for anchors that fit objects better, by differential evolution."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import differential_evolution
from torch import Tensor

from focal_retina.anchor_analysis.anchor_config import AnchorConfig, AnchorGrids, AnchorShapes
from focal_retina.anchor_analysis.fit import AnchorFit, best_ious, is_no_worse, measure_fit, scores
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.errors import UserError

# How far sizes may move from their start, and ratios from 1, in octaves.
_SIZE_RANGE, _RATIO_RANGE = 2.0, 3.0


def propose(
    objects: Objects,
    config: AnchorConfig,
    configured: AnchorFit,
    starts: Sequence[AnchorShapes],
    *,
    max_objects: int,
    generations: int,
    seed: int,
) -> AnchorFit:
    """Return the fit of better anchors, or ``configured`` if none are found.

    The search looks for the highest sum of :func:`scores`. No score, nor the number of objects
    without a foreground anchor, may be worse than the config's.

    Args:
        configured: the fit of the config's anchors to ``objects``.
        starts: shapes to start from; their numbers of sizes and ratios stay.
        max_objects: the search looks at a sample of so many objects.
        generations: at most so many from each start.
        seed: of the sample and the search.
    """
    sample = objects.sample(max_objects, seed)
    threshold = config.foreground_threshold
    grids = AnchorGrids.of(config, config.shapes, sample.image_sizes)

    def scores_of(shapes: AnchorShapes) -> Tensor:
        others = grids._replace(generator=config.build_generator(shapes))
        return scores(best_ious(sample, others), threshold)

    least = scores_of(config.shapes)

    def cost(shapes: AnchorShapes) -> float:
        found = scores_of(shapes)
        return float(10 * (least - found).clamp(min=0).sum() - found.sum())

    found = [_search(cost, start, generations, seed) for start in starts]
    labelled = objects.image_idxs[configured.is_labelled].unique()
    for _, shapes in sorted(found, key=lambda x: x[0]):
        fit = measure_fit(objects, config, labelled, shapes)
        is_better = not is_no_worse(configured, fit, threshold)
        if is_better and is_no_worse(fit, configured, threshold):
            return fit
    return configured


def starting_shapes(
    config: AnchorConfig, num_scales: int | None = None, num_ratios: int | None = None
) -> list[AnchorShapes]:
    """Return shapes to start from, with as many anchors per location as the config has.

    Other numbers of scales per octave and aspect ratios may be given, for a generator with octaves;
    without them, every pair of the same product is a start.
    """
    shapes = config.shapes
    scales, ratios = shapes.scales_per_octave, len(shapes.aspect_ratios[0])
    if num_scales or num_ratios:
        if not config.has_octaves:
            raise UserError(
                "--scales-per-octave and --aspect-ratios need MODEL.ANCHOR_GENERATOR.NAME "
                "OctaveAnchorGenerator"
            )
        return [_spread(shapes, num_scales or scales, num_ratios or ratios)]
    has_one_size = all(len(level) == 1 for level in shapes.sizes)
    if not config.has_octaves or not has_one_size or len(set(map(len, shapes.aspect_ratios))) > 1:
        return [shapes]
    product = scales * ratios
    divisors = [n for n in range(1, product + 1) if product % n == 0 and n != scales]
    return [shapes, *(_spread(shapes, n, product // n) for n in divisors)]


def _spread(shapes: AnchorShapes, num_scales: int, num_ratios: int) -> AnchorShapes:
    """Return one size per level, the smallest of ``shapes``, and ratios from 1/2 to 2."""
    ratios = np.geomspace(0.5, 2, num_ratios).tolist() if num_ratios > 1 else [1.0]
    return AnchorShapes([[min(level)] for level in shapes.sizes], [ratios], num_scales)


def _search(
    cost: Callable[[AnchorShapes], float], start: AnchorShapes, generations: int, seed: int
) -> tuple[float, AnchorShapes]:
    """Return the lowest cost and its shapes."""
    vector = np.log2(np.concatenate([*start.sizes, *start.aspect_ratios]))
    num_sizes = sum(map(len, start.sizes))
    low, high = vector - _SIZE_RANGE, vector + _SIZE_RANGE
    low[num_sizes:] = np.minimum(vector[num_sizes:], -_RATIO_RANGE)
    high[num_sizes:] = np.maximum(vector[num_sizes:], _RATIO_RANGE)
    result = differential_evolution(
        lambda x: cost(_decode(x, start)),
        list(zip(low, high, strict=True)),
        x0=vector,
        maxiter=generations,
        popsize=8,
        polish=False,  # the cost is a step function, since there are thresholds
        seed=np.random.default_rng(seed),
    )
    return float(result.fun), _decode(result.x, start)


def _decode(vector: np.ndarray, like: AnchorShapes) -> AnchorShapes:
    """Return the rounded shapes of a vector of logarithms."""
    numbers = iter((2**vector).tolist())
    sizes = [[round(next(numbers), 1) for _ in level] for level in like.sizes]
    ratios = [[round(next(numbers), 3) for _ in level] for level in like.aspect_ratios]
    return AnchorShapes(sizes, [sorted(level) for level in ratios], like.scales_per_octave)
