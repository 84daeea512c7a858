"""Importing the package registers its parts; importing it again does no harm."""

import importlib
import subprocess
import sys

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_model
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from fvcore.common.registry import Registry
from helpers.batches import GN_R18, detectron2_retinanet_config
from helpers.tiny_jobs import ROOT

import focal_retina
from focal_retina.modeling import anchors, backbones, head, proposals, retinanet
from focal_retina.registry import register

REGISTERED = [
    (META_ARCH_REGISTRY, "FocalRetinaNet", retinanet),
    (PROPOSAL_GENERATOR_REGISTRY, "FocalProposalGenerator", proposals),
    (RPN_HEAD_REGISTRY, "FocalRetinaHead", head),
    (ANCHOR_GENERATOR_REGISTRY, "OctaveAnchorGenerator", anchors),
    (ANCHOR_GENERATOR_REGISTRY, "TorchvisionAnchorGenerator", anchors),
    (BACKBONE_REGISTRY, "build_focal_retina_resnet_fpn_backbone", backbones),
    (BACKBONE_REGISTRY, "build_focal_retina_regnet_fpn_backbone", backbones),
    (BACKBONE_REGISTRY, "build_focal_retina_timm_fpn_backbone", backbones),
]


@pytest.mark.parametrize(("registry", "name", "module"), REGISTERED)
def test_import_registers(registry, name, module):
    assert registry.get(name) is getattr(module, name)


def test_a_second_registration_replaces_and_a_strangers_name_is_refused():
    registry = Registry("TEST")

    class Part:
        pass

    register(registry)(Part)
    again = type("Part", (), {"__module__": Part.__module__})
    register(registry)(again)
    assert registry.get("Part") is again
    stranger = type("Part", (), {"__module__": "elsewhere"})
    with pytest.raises(AssertionError, match="Part"):
        register(registry)(stranger)


def test_a_reload_does_no_harm():
    importlib.reload(focal_retina)
    cfg = detectron2_retinanet_config({**GN_R18, "MODEL.META_ARCHITECTURE": "FocalRetinaNet"})
    assert type(build_model(cfg)) is focal_retina.FocalRetinaNet


def test_a_config_made_without_our_keys_builds_with_their_defaults():
    cfg = detectron2_retinanet_config({**GN_R18, "MODEL.META_ARCHITECTURE": "FocalRetinaNet"})
    del cfg.MODEL["FOCAL_RETINA"]
    assert "FOCAL_RETINA" not in get_cfg().MODEL
    assert build_model(cfg).loss.normalizer.kind == "ema"


def test_a_forgotten_import_gives_the_error_that_the_readme_answers():
    script = (
        "from detectron2.modeling import META_ARCH_REGISTRY as registry\n"
        "try: registry.get('FocalRetinaNet')\n"
        "except KeyError as error: print(error.args[0])\n"
        "import focal_retina; print(registry.get('FocalRetinaNet').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    error, name = done.stdout.splitlines()
    assert f'### "{error}"' in (ROOT / "README.md").read_text()
    assert name == "FocalRetinaNet"
