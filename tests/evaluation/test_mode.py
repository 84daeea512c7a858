"""Evaluation: folded and under autocast when asked, and the model comes back as it was."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from helpers.small_models import tiny_batch, tiny_config, tiny_model

from focal_retina.evaluation.evaluate import evaluation_mode
from focal_retina.settings.load import settings_of


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_evaluation_folds_computes_in_the_dtype_and_restores(dtype):
    model = tiny_model({"MODEL.RESNETS.NORM": "FrozenBN"}).train()
    computed = []
    hook = model.backbone.register_forward_hook(lambda _, __, out: computed.append(out["p3"].dtype))
    with evaluation_mode(model, dtype):
        assert not model.training
        assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
        detections = model(tiny_batch([0]))[0]["instances"]
    hook.remove()
    assert computed == [dtype or torch.float32]
    assert detections.pred_boxes.tensor.dtype == torch.float32
    assert model.training
    assert any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())


def test_autocast_at_test_is_a_key_and_off_by_default():
    cfg = tiny_config()
    assert settings_of(cfg).test_dtype is None
    cfg.TEST.AMP.ENABLED = True
    assert settings_of(cfg).test_dtype == torch.float16
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    assert settings_of(cfg).test_dtype == torch.bfloat16
