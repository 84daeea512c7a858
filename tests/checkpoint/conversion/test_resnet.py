"""torchvision's and timm's ImageNet ResNets give their own features as our backbone."""

import json

import pytest
import torch
from helpers.foreign_models import built, converted, randomise, synthetic_images
from torchvision.models import resnet18, resnext50_32x4d
from torchvision.models.feature_extraction import create_feature_extractor

from focal_retina.tools.convert_checkpoint import main


@pytest.mark.parametrize("builder", [resnet18, resnext50_32x4d])
@torch.no_grad()
def test_features_are_theirs(builder, tmp_path):
    torch.manual_seed(0)
    theirs = randomise(builder())
    _, ours = converted(theirs.state_dict(), tmp_path)
    image = synthetic_images()[0]
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    layers = {"layer2": "res3", "layer3": "res4", "layer4": "res5"}
    expected = create_feature_extractor(theirs, layers)((image / 255 - mean)[None] / std)
    batch = ours.preprocessor([{"image": image}], ours.backbone)
    for name, feature in ours.backbone.bottom_up(batch.tensor).items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(feature, expected[name], atol=1e-4 * scale, rtol=0)


def test_a_safetensors_file_is_read(tmp_path):
    state = {k: v for k, v in resnet18().state_dict().items() if v.dtype == torch.float32}
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, value in state.items():
        offsets = [len(numbers), len(numbers) + 4 * value.numel()]
        numbers += value.numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    source = tmp_path / "model.safetensors"
    source.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    assert main([str(source), str(tmp_path / "target.pth")]) == 0
    _, detector = built(tmp_path / "target.yaml")
    conv = detector.backbone.bottom_up.res5[1].conv2
    assert torch.equal(conv.weight, state["layer4.1.conv2.weight"])


def test_a_backbone_of_another_shape_is_refused(tmp_path, capsys):
    state = resnet18().state_dict()
    kept = {k: v for k, v in state.items() if not k.startswith("layer4.1")}
    torch.save(kept, tmp_path / "odd.pth")
    assert main([str(tmp_path / "odd.pth"), str(tmp_path / "target.pth")]) == 2
    assert "(2, 2, 2, 1) blocks of 2 convolutions" in capsys.readouterr().err
