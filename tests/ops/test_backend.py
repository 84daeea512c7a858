import pytest
import torch

from focal_retina.errors import UserError
from focal_retina.ops.backend import available_backends, resolve_backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_torch_on_a_cpu():
    assert resolve_backend("auto", CPU) == "torch"


def test_auto_on_cuda_is_triton_where_it_is_installed(monkeypatch):
    for installed, expected in ((True, "triton"), (False, "torch")):
        monkeypatch.setattr("focal_retina.ops.backend._TRITON_INSTALLED", installed)
        assert resolve_backend("auto", CUDA) == expected


@pytest.mark.parametrize("name", ["reference", "torch"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_the_pytorch_backends_are_available_everywhere(name, device):
    assert resolve_backend(name, device) == name


def test_triton_is_available_on_a_cpu_only_in_its_interpreter(monkeypatch):
    monkeypatch.setattr("focal_retina.ops.backend._TRITON_INSTALLED", True)
    for interpreted in (True, False):
        monkeypatch.setattr("focal_retina.ops.backend._TRITON_INTERPRETED", interpreted)
        assert ("triton" in available_backends(CPU)) == interpreted


@pytest.mark.parametrize("name", ["fast", "", "Torch"])
def test_an_unknown_backend_is_refused_and_the_others_are_named(name):
    with pytest.raises(UserError, match=f"'{name}'.*auto, reference, torch"):
        resolve_backend(name, CPU)


def test_triton_where_it_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr("focal_retina.ops.backend._TRITON_INSTALLED", False)
    with pytest.raises(UserError, match="'triton'.* is not available on cuda"):
        resolve_backend("triton", CUDA)
