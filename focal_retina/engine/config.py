"""Reading a YAML config: safely, with errors that say what to change."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from detectron2.utils.file_io import PathManager

from focal_retina.config import add_focal_retina_config
from focal_retina.engine.checks import check_name, did_you_mean

# The wording of yacs.
_UNKNOWN_KEY = re.compile(r"Non-existent (?:config )?key: (\S+)")
_TYPE_MISMATCH = re.compile(
    r"<class '(?:\w+\.)*(\w+)'> vs. <class '(?:\w+\.)*(\w+)'>\) with values "
    r"\(.* vs\. (.*)\) for config key: (\S+)",
    re.DOTALL,
)


def load_yaml(config_file: str, opts: Sequence[str] = (), trust_config: bool = False) -> CfgNode:
    """Return the defaults with a YAML file, its ``_BASE_`` chain and overrides merged in.

    Args:
        opts: ``KEY VALUE KEY VALUE ...``.
        trust_config: let Python tags in the YAML run their code.

    Raises:
        ValueError: a missing file, a Python tag without ``trust_config``, an unknown key or
            registered name, a value of the wrong type.
    """
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    if not PathManager.isfile(config_file):
        raise ValueError(f"config file {config_file} does not exist")
    with _clear_errors(config_file, cfg):
        cfg.merge_from_file(config_file, allow_unsafe=trust_config)
    with _clear_errors("the command line", cfg):
        cfg.merge_from_list(list(opts))
    for key, name, registry in (
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY),
        ("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY),
        ("MODEL.ANCHOR_GENERATOR.NAME", cfg.MODEL.ANCHOR_GENERATOR.NAME, ANCHOR_GENERATOR_REGISTRY),
        ("MODEL.RPN.HEAD_NAME", cfg.MODEL.RPN.HEAD_NAME, RPN_HEAD_REGISTRY),
    ):
        check_name(key, name, [known for known, _ in registry])
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    # "PrecomputedProposals" is a name without an entry in the registry.
    generators = [known for known, _ in PROPOSAL_GENERATOR_REGISTRY] + ["PrecomputedProposals"]
    check_name("MODEL.PROPOSAL_GENERATOR.NAME", name, generators)
    return cfg


def dotted_keys(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    """Return the config flat: ``{"MODEL.DEVICE": "cuda", ...}``, nodes included."""
    flat = {}
    for key, value in cfg.items():
        flat[prefix + key] = value
        if isinstance(value, CfgNode):
            flat |= dotted_keys(value, f"{prefix}{key}.")
    return flat


@contextmanager
def _clear_errors(source: str, cfg: CfgNode) -> Iterator[None]:
    """Turn what yaml, fvcore and yacs raise while merging ``source`` into one sentence."""
    try:
        yield
    except yaml.YAMLError as error:
        raise ValueError(_explain_yaml(source, error)) from error
    except FileNotFoundError as error:
        raise ValueError(f"{source}: its _BASE_ {error.filename} does not exist") from error
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: {_explain_merge(error, cfg)}") from error


def _explain_yaml(source: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.constructor.ConstructorError) and "python/" in error.problem:
        mark = error.problem_mark
        return (
            f"{mark.name}, line {mark.line + 1}, has a Python tag (!!python), as Detectron2's own "
            "Base-RetinaNet.yaml does, and loading it can run any code: write the value as plain "
            "YAML, or pass --trust-config if you trust the file"
        )
    return f"{source} is not valid YAML: {error}"


def _explain_merge(error: Exception, cfg: CfgNode) -> str:
    message = str(error.args[0])
    if unknown := _UNKNOWN_KEY.search(message):
        return f"there is no key {unknown[1]}{did_you_mean(unknown[1], dotted_keys(cfg))}"
    if wrong := _TYPE_MISMATCH.search(message):
        expected, found, value, key = wrong.groups()
        return f"{key} takes a {expected}, not the {found} {value}"
    return message
