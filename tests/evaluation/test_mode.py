"""Evaluation: folded and under autocast when asked, and the model comes back as it was."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch

from focal_retina.evaluation.mode import evaluation_mode
from focal_retina.settings.load import settings_of


def small_model():
    torch.manual_seed(0)
    cfg = detectron2_retinanet_config(
        {**GN_R18, "MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RESNETS.NORM": "FrozenBN"}
    )
    return build_model(cfg)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_evaluation_folds_computes_in_the_dtype_and_restores(dtype):
    model = small_model().train()
    computed = []
    hook = model.backbone.register_forward_hook(lambda _, __, out: computed.append(out["p3"].dtype))
    with evaluation_mode(model, dtype):
        assert not model.training
        assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
        detections = model(random_batch([(64, 64)], [0]))[0]["instances"]
    hook.remove()
    assert computed == [dtype or torch.float32]
    assert detections.pred_boxes.tensor.dtype == torch.float32
    assert model.training
    assert any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())


def test_autocast_at_test_is_a_key_and_off_by_default():
    cfg = detectron2_retinanet_config()
    assert settings_of(cfg).test_dtype is None
    cfg.TEST.AMP.ENABLED = True
    assert settings_of(cfg).test_dtype == torch.float16
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    assert settings_of(cfg).test_dtype == torch.bfloat16
