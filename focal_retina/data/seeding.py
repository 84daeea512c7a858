"""Random numbers that depend on where they are drawn, not on what was drawn before."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Dataset

logger = logging.getLogger(__name__)


def seed_all(*entropy: int) -> int:
    """Seed the generators of Python, of NumPy and of PyTorch on the CPU with integers >= 0.

    Return the seed of PyTorch's generator, for the generators of other devices.
    """
    words = np.random.SeedSequence(entropy).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[:2].view(np.uint64)[0])
    torch.default_generator.manual_seed(seed)
    return seed


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the generators that :func:`seed_all` seeds when the context ends."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


class SeededImages(Dataset):
    """Mapped images by (place in the stream, dataset index), the same bits in every process.

    Args:
        dataset: a sequence of dataset dicts.
        mapper: is called when the generators have been seeded with ``seed`` and the place. If it
            returns None, another random image takes the place.
    """

    def __init__(self, dataset, mapper: Callable, seed: int):
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __getitem__(self, place_and_index: tuple[int, int]):
        place, index = place_and_index
        with random_state_kept():
            seed_all(self.seed, place)
            for tries, candidate in enumerate(self._candidates(place, index), 1):
                mapped = self.mapper(self.dataset[candidate])
                if mapped is not None:
                    return mapped
                if tries >= 3:
                    logger.warning(f"The mapper returned None for {tries} images in turn.")
        raise ValueError("the mapper returned None for every image of the training data")

    def _candidates(self, place: int, index: int) -> Iterator[int]:
        """Yield the index, then all others in an order that depends on the place alone."""
        yield index
        others = [other for other in range(len(self.dataset)) if other != index]
        random.Random(f"{self.seed} {place}").shuffle(others)
        yield from others
