"""Importing the package registers its parts and keys; importing it again does no harm."""

import importlib

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_model
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from fvcore.common.registry import Registry
from helpers.processes import run_python
from helpers.small_models import tiny_config
from helpers.tiny_jobs import ROOT

import focal_retina
from focal_retina.config import REMOVED_KEYS, add_focal_retina_config
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
    first, again = (type("Part", (), {}) for _ in range(2))
    register(registry)(first)
    register(registry)(again)
    assert registry.get("Part") is again
    stranger = type("Part", (), {"__module__": "elsewhere"})
    with pytest.raises(AssertionError, match="Part"):
        register(registry)(stranger)


def test_a_reload_does_no_harm():
    importlib.reload(focal_retina)
    assert type(build_model(tiny_config())) is focal_retina.FocalRetinaNet


def test_a_config_made_without_our_keys_builds_with_their_defaults():
    cfg = tiny_config()
    del cfg.MODEL["FOCAL_RETINA"]
    assert "FOCAL_RETINA" not in get_cfg().MODEL
    assert build_model(cfg).loss.normalizer.kind == "ema"


def test_a_config_of_an_earlier_version_loads_with_a_warning_for_each_removed_key(tmp_path, caplog):
    cfg = get_cfg()
    for _ in range(2):
        add_focal_retina_config(cfg)
    names = {key.rpartition(".")[2] for key in REMOVED_KEYS}
    lines = [f"    {name}: 1" for name in names]
    old = "\n".join(["MODEL:", "  FOCAL_RETINA:", "    OHEM_BATCH_SIZE: 7", *lines])
    (tmp_path / "config.yaml").write_text(old)
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    assert cfg.MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE == 7
    assert not names & cfg.MODEL.FOCAL_RETINA.keys()
    for key in REMOVED_KEYS:
        assert f"Deprecated config key (ignoring): {key}" in caplog.messages


@pytest.mark.slow
def test_a_forgotten_import_gives_the_error_that_the_readme_answers():
    script = (
        "from detectron2.modeling import META_ARCH_REGISTRY as registry\n"
        "try: registry.get('FocalRetinaNet')\n"
        "except KeyError as error: print(error.args[0])\n"
        "import focal_retina; print(registry.get('FocalRetinaNet').__name__)"
    )
    error, name = run_python("-c", script).stdout.splitlines()
    assert f'### "{error}"' in (ROOT / "README.md").read_text()
    assert name == "FocalRetinaNet"
