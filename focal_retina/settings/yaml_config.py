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

from focal_retina.config import add_focal_retina_config
from focal_retina.errors import UserError, did_you_mean, shortened
from focal_retina.settings.contradictions import check_contradictions
from focal_retina.settings.flat_keys import dotted_keys, value_of
from focal_retina.settings.limits import check_limits
from focal_retina.settings.yaml_files import check_files

_REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
}
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
        UserError: a missing or unusable file, a Python tag without ``trust_config``, an unknown
            key or registered name, a value of the wrong type or outside its limits.
    """
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    defaults = dotted_keys(cfg)
    check_files(config_file, trust_config)
    with _clear_errors(config_file, cfg):
        cfg.merge_from_file(config_file, allow_unsafe=trust_config)
    opts = list(opts)
    pairs = [opts[i : i + 2] for i in range(0, len(opts), 2)] if len(opts) % 2 == 0 else [opts]
    for pair in pairs:  # one by one, so that an error can name the key
        with _clear_errors("the command line", cfg, pair[0]):
            cfg.merge_from_list(pair)
    for key, value in dotted_keys(cfg).items():  # yacs takes None for a value of any type
        if value is None and defaults.get(key) is not None:
            raise UserError(f"{key} takes a {type(defaults[key]).__name__}, not None")
    _check_names(cfg)
    check_limits(cfg)
    check_contradictions(cfg)
    return cfg


def _check_names(cfg: CfgNode) -> None:
    """Refuse names of parts that nothing is registered as."""
    for key, registry in _REGISTRIES.items():
        name, known = value_of(cfg, key), [known for known, _ in registry]
        if registry is PROPOSAL_GENERATOR_REGISTRY:
            known.append("PrecomputedProposals")  # which has no entry
        if name not in known:
            remedy = did_you_mean(name, known) or (
                "; if it is a part of yours, import the module that registers it first, for "
                "instance in a copy of train_net.py"
            )
            raise UserError(f"{key}: nothing is registered as {name!r}{remedy}")


@contextmanager
def _clear_errors(source: str, cfg: CfgNode, key: str | None = None) -> Iterator[None]:
    """Turn what yaml, fvcore and yacs raise while merging a source into one sentence."""
    try:
        yield
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not valid YAML: {error}") from error
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source}: {_explain(error, cfg, key)}") from error
    except (MemoryError, RecursionError) as error:  # by Python's parser, which yacs reads text with
        raise UserError(f"{source}: {key or 'a value'} is nested too deep") from error


def _explain(error: Exception, cfg: CfgNode, key: str | None) -> str:
    message = str(error.args[0]) if error.args else type(error).__name__
    if unknown := _UNKNOWN_KEY.search(message):
        return f"there is no key {unknown[1]}{did_you_mean(unknown[1], dotted_keys(cfg))}"
    if wrong := _TYPE_MISMATCH.search(message):
        expected, found, value, key = wrong.groups()
        return f"{key} takes a {expected}, not the {found} {shortened(value)}"
    return message if key is None or key in message else f"{key!r}: {message}"
