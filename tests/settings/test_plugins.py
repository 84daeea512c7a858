"""A backbone of another project, with keys of its own, trains and predicts by an argument."""

import json
import sys

import pytest
import yaml
from helpers.processes import run_python
from helpers.tiny_jobs import run_here

from focal_retina.inference.predictor import Predictor
from focal_retina.settings import plugins

# As third-party projects of Detectron2 have it: a registered backbone, and a function of its keys.
PROJECT = """
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

def add_tiny_net_config(cfg):
    cfg.MODEL.TINY_NET = CfgNode({"WIDTH": 4})

class TinyNet(Backbone):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(
            nn.Conv2d(3, width, 3, stride=2**i, padding=1) for i in range(3, 8))

    def forward(self, images):
        return {f"p{i}": layer(images) for i, layer in enumerate(self.layers, start=3)}

    def output_shape(self):
        return {f"p{i}": ShapeSpec(channels=self.width, stride=2**i) for i in range(3, 8)}

@BACKBONE_REGISTRY.register()
def build_tiny_net(cfg, input_shape):
    return TinyNet(cfg.MODEL.TINY_NET.WIDTH)
"""
KEYS = {"BACKBONE": {"NAME": "build_tiny_net"}, "TINY_NET": {"WIDTH": 8}}


@pytest.fixture(scope="module")
def project(jobs):
    """The folder of a project with a config of its backbone."""
    (jobs / "tiny_net.py").write_text(PROJECT)
    config = {"_BASE_": "tiny.yaml", "OUTPUT_DIR": str(jobs / "out"), "MODEL": KEYS}
    (jobs / "tiny_net.yaml").write_text(yaml.safe_dump(config))
    return jobs


@pytest.fixture
def importable(project, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    monkeypatch.setattr(plugins, "_add_configs", {})


@pytest.mark.slow
def test_two_processes_train_a_plugins_backbone_and_its_config_can_be_read_again(project):
    plugin = ("--plugin", "tiny_net:add_tiny_net_config")
    environ = {"PYTHONPATH": f"{project}:{sys.path[0]}:."}
    trained = run_python(
        *("train_net.py", "--config-file", project / "tiny_net.yaml", *plugin, "--num-gpus", 2),
        **environ,
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    predicted = run_python(
        *("-m", "focal_retina.tools.predict", "--config-file", project / "out" / "config.yaml"),
        *("--weights", project / "out" / "model_final.pth", "--output", project / "predicted"),
        *(*plugin, next(project.glob("**/images"))),
        **environ,
    )
    assert predicted.returncode == 0, predicted.stderr[-2000:]
    assert "images" in json.loads((project / "predicted" / "images.json").read_text())


def test_python_code_may_load_a_plugin_too(project, importable):
    plugins.load_plugin("tiny_net:add_tiny_net_config")
    opts = ["MODEL.DEVICE", "cpu", "MODEL.TINY_NET.WIDTH", "12"]
    run_here("--config-file", project / "tiny_net.yaml", *opts[2:], "SOLVER.MAX_ITER", 1)
    weights = str(project / "out" / "model_final.pth")
    predictor = Predictor(str(project / "tiny_net.yaml"), weights, opts)
    assert predictor.model.backbone.width == 12


def test_without_it_the_sentence_names_the_argument(project, sentence_of):
    sentence = sentence_of("--config-file", project / "tiny_net.yaml")
    assert "there is no key MODEL.TINY_NET" in sentence and "--plugin MODULE" in sentence


@pytest.mark.parametrize(
    "plugin, complaint",
    [
        ("no_such_module", "No module named 'no_such_module'"),
        ("json:no_such_function", "json has no function no_such_function"),
        ("json:__name__", "json has no function __name__"),
    ],
)
def test_what_cannot_be_imported_is_named(plugin, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_here("--config-file", "x.yaml", "--plugin", plugin)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
