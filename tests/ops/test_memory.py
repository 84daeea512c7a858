from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.loss_cases import both_layouts

from focal_retina.ops import memory
from focal_retina.ops.memory import reused_empty_like


def likenesses(layout=torch.contiguous_format):
    return [
        torch.empty(shape, dtype=dtype).to(memory_format=layout)
        for shape in [(2, 6, 5, 7), (1, 3, 500, 70), (1, 1, 1, 1)]
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
    ]


@both_layouts
def test_dtype_shape_and_strides_are_kept(layout):
    tensors = likenesses(layout)
    for x, y in zip(tensors, reused_empty_like(tensors), strict=True):
        assert (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride())


def test_every_tensor_starts_a_cache_line():
    held = [
        reused_empty_like([torch.empty(size), torch.empty(1)]) for size in (10, 1000, 10**5, 10**7)
    ]
    assert all(x.data_ptr() % 64 == 0 for tensors in held for x in tensors)


def test_the_tensors_do_not_overlap():
    tensors = reused_empty_like(likenesses())
    for i, x in enumerate(tensors):
        x.fill_(i)
    assert all(x.eq(i).all() for i, x in enumerate(tensors))


def test_memory_without_tensors_is_used_again_until_it_is_released():
    reused_empty_like(likenesses())[0].fill_(7)
    # Fresh memory would be of zeros.
    assert (reused_empty_like(likenesses())[0] == 7).all()
    memory.release()
    assert not memory._kept


@pytest.mark.parametrize("holder", ["tensor", "view", "array", "graph"])
def test_memory_that_somebody_holds_is_left_alone(holder):
    tensors = reused_empty_like(likenesses())
    tensors[0].fill_(7)
    held = {
        "tensor": tensors[0],
        "view": tensors[0][1:, 2],
        "array": tensors[0].numpy(),
        "graph": (tensors[0] * torch.ones(1, requires_grad=True)).grad_fn,
    }[holder]
    del tensors
    for x in reused_empty_like(likenesses()):
        x.fill_(1)
    values = held._saved_self if holder == "graph" else held
    assert (values == 7).all()


def test_threads_never_share_memory():
    failures = []

    def work(value):
        for _ in range(200):
            first, *_, last = reused_empty_like(likenesses())
            first.fill_(value)
            last.fill_(value)
            if not (first.eq(value).all() and last.eq(value).all()):
                failures.append(value)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert not failures


def test_very_large_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(memory, "_LARGEST_KEPT", 1000)
    reused_empty_like(likenesses())
    assert not memory._kept
