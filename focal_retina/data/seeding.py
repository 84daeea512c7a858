"""Random numbers as a function of where they are drawn, not of what was drawn before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(*entropy: int) -> int:
    """Seed the generators of Python, of NumPy and of PyTorch on the CPU.

    Args:
        entropy: integers >= 0, such as the run's seed and an iteration. Every change of one of
            them gives other random numbers.

    Returns:
        The seed that PyTorch's generator got, for the generators of other devices.
    """
    words = np.random.SeedSequence(entropy).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[:2].view(np.uint64)[0])
    torch.default_generator.manual_seed(seed)
    return seed


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore afterwards the generators that :func:`seed_all` seeds."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)
