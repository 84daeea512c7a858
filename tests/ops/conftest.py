import pytest
import torch
from helpers.loss_cases import make_labels, make_logits


@pytest.fixture(params=["contiguous", "channels_last"])
def logits(request):
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    return make_logits(3, layout=layout[request.param])


@pytest.fixture
def labels(logits):
    return make_labels(logits, 3)


@pytest.fixture
def one_thread():
    """Small operations: a second thread would mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
