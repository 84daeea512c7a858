"""Folding batch normalisation changes nothing but rounding, and leaves no trace."""

import pytest
import torch
from batches import GN_R18, detectron2_retinanet_config
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from focal_retina.modeling.folding import folded_batch_norm


def model_with(norm):
    torch.manual_seed(0)
    cfg = detectron2_retinanet_config(
        {**GN_R18, "MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RESNETS.NORM": norm}
    )
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            nn.init.normal_(module.weight.data, 0.5, 0.1)
            nn.init.normal_(module.bias.data, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@torch.no_grad()
def test_features_are_the_same_up_to_rounding_and_the_model_comes_back_to_the_bit(norm):
    model = model_with(norm)
    images = torch.randn(1, 3, 64, 96)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    expected = model.backbone(images)
    with folded_batch_norm(model):
        assert not any(isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d) for m in model.modules())
        folded = model.backbone(images)
    for name, feature in expected.items():
        assert torch.allclose(folded[name], feature, rtol=1e-4, atol=1e-4 * feature.abs().max())
        assert not torch.equal(folded[name], feature)
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[k], v) for k, v in state.items())


def test_the_model_comes_back_after_an_error():
    model = model_with("FrozenBN")
    keys = model.state_dict().keys()
    with pytest.raises(KeyError), folded_batch_norm(model):
        raise KeyError("anything")
    assert model.state_dict().keys() == keys


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match="eval"), folded_batch_norm(model_with("BN").train()):
        pass
