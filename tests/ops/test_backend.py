import pytest
import torch

from focal_retina.errors import UserError
from focal_retina.ops import backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "installed", "interpreted", "auto", "others"),
    [
        (CPU, True, False, "torch", ["reference", "torch"]),
        (CPU, True, True, "torch", ["reference", "torch", "triton"]),
        (CPU, False, True, "torch", ["reference", "torch"]),
        (CUDA, True, False, "triton", ["reference", "torch", "triton"]),
        (CUDA, False, False, "torch", ["reference", "torch"]),
    ],
)
def test_triton_is_there_where_it_is_installed_on_a_cpu_only_in_its_interpreter(
    monkeypatch, device, installed, interpreted, auto, others
):
    monkeypatch.setattr(backend, "_TRITON_INSTALLED", installed)
    monkeypatch.setattr(backend, "_TRITON_INTERPRETED", interpreted)
    assert backend.resolve_backend("auto", device) == auto
    assert backend.available_backends(device) == ["auto", *others]
    assert [backend.resolve_backend(name, device) for name in others] == others
    for name in {"fast", "", "Torch", "triton"} - set(others):
        with pytest.raises(UserError, match=f"'{name}'.* on {device.type}.*auto, reference, torch"):
            backend.resolve_backend(name, device)
