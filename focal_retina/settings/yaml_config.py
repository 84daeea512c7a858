"""Reading a YAML config: safely, with errors that say what to change."""

import ast
from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode, downgrade_config, get_cfg, upgrade_config
from detectron2.config.compat import guess_version
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

from focal_retina.config import REMOVED_KEYS, add_focal_retina_config
from focal_retina.errors import UserError, did_you_mean, shown
from focal_retina.settings.contradictions import check_contradictions
from focal_retina.settings.flat_keys import dotted_keys, nested_keys, value_of
from focal_retina.settings.limits import check_limits
from focal_retina.settings.plugins import add_plugin_configs
from focal_retina.settings.yaml_files import read_config

_REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
}
_TYPES = (bool, int, float, str, tuple, list, type(None))


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
    add_plugin_configs(cfg)
    cfg = _with_file(cfg, read_config(config_file, trust_config), config_file)
    if len(opts) % 2:
        raise UserError(f"the command line: {shown([*opts])} is no list of KEY VALUE pairs")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        if "" in key.split("."):
            raise UserError(f"the command line: there is no key {key or repr(key)}")
        _Merge(cfg, "the command line").merge(nested_keys({key: value}))
    _check_names(cfg)
    check_limits(cfg)
    check_contradictions(cfg)
    return cfg


def _with_file(cfg: CfgNode, tree: dict, config_file: str) -> CfgNode:
    """Return a config with the tree of a file merged in, which may be of an old version."""
    for key in ("MODEL", "TEST"):  # which tell the version
        if not isinstance(tree.get(key, {}), dict):
            raise UserError(f"{config_file}: {key} takes keys with values")
    version = tree["VERSION"] if "VERSION" in tree else guess_version(tree, config_file)
    if version not in (1, cfg.VERSION) or isinstance(version, bool):
        raise UserError(f"{config_file}: VERSION is the one of Detectron2's configs, 2")
    if version == cfg.VERSION:
        _Merge(cfg, config_file).merge(tree)
        return cfg
    old = downgrade_config(cfg, to_version=version)
    _Merge(old, config_file).merge(tree)
    return upgrade_config(old)


class _Merge:
    """Merges trees of one source into a config, by the rules of yacs, each key checked first."""

    def __init__(self, cfg: CfgNode, source: str):
        self.cfg, self.source = cfg, source

    def merge(
        self, tree: Mapping[str, object], node: CfgNode | None = None, prefix: str = ""
    ) -> None:
        """Merge a tree into a node, by default the whole config.

        Raises:
            UserError: there is no such key, or its value is of another type.
        """
        node = self.cfg if node is None else node
        for name, text in tree.items():
            if not isinstance(name, str):  # in a text that stands for a dict
                raise UserError(f"{self.source}: {prefix}{shown(name)} is no key: a key is a word")
            key = prefix + name
            value = self._literal(key, text)
            if name not in node and not node.is_new_allowed():
                self._check_removed(key, value)
            elif isinstance(value, Mapping) and (value or isinstance(node.get(name), CfgNode)):
                below = node.setdefault(name, CfgNode(new_allowed=True))
                self.merge(value, below if isinstance(below, CfgNode) else CfgNode(), f"{key}.")
            else:
                node[name] = self._fitted(key, value, node.get(name))

    def _literal(self, key: str, value: object) -> object:
        """Return what a text stands for, as yacs reads it: a number, a list, or itself."""
        try:
            return ast.literal_eval(value) if isinstance(value, str) else value
        except (MemoryError, RecursionError) as error:  # by Python's parser
            raise UserError(f"{self.source}: {key} is {shown(value)}, nested too deep") from error
        except (SyntaxError, TypeError, ValueError):
            return value

    def _check_removed(self, key: str, value: object) -> None:
        """Raise a UserError unless the key is one of earlier versions, with its default."""
        if key in REMOVED_KEYS and value != REMOVED_KEYS[key]:
            raise UserError(
                f"{self.source}: there is no key {key} any more, and what is done now is what "
                f"{REMOVED_KEYS[key]!r} did, not {shown(value)}: take the key out"
            )
        if key in REMOVED_KEYS or self.cfg.key_is_deprecated(key):
            return
        remedy = did_you_mean(key, dotted_keys(self.cfg))
        if not remedy or isinstance(value, Mapping):  # a node, as other projects add
            remedy += " (what adds keys of another project: --plugin MODULE:ADD_CONFIG)"
        raise UserError(f"{self.source}: there is no key {key}{remedy}")

    def _fitted(self, key: str, value: object, old: object) -> object:
        """Return a value as the type of the one it replaces."""
        try:
            str(value)
        except ValueError as error:  # by a whole number, in a list too
            raise UserError(f"{self.source}: {key} has a number of thousands of digits") from error
        if isinstance(old, float) and type(value) is int and abs(value) < 2**63:
            return float(value)
        if isinstance(old, list | tuple) and isinstance(value, list | tuple):
            return type(old)(value)
        if type(value) in _TYPES and (old is None or type(value) is type(old)):
            return value
        wanted = "keys with values" if isinstance(old, CfgNode) else f"a {type(old).__name__}"
        found = "None" if value is None else f"the {type(value).__name__} {shown(value)}"
        raise UserError(f"{self.source}: {key} takes {wanted}, not {found}")


def _check_names(cfg: CfgNode) -> None:
    """Refuse names of parts that nothing is registered as."""
    for key, registry in _REGISTRIES.items():
        name, known = value_of(cfg, key), [known for known, _ in registry]
        if registry is PROPOSAL_GENERATOR_REGISTRY:
            known.append("PrecomputedProposals")  # which has no entry
        if name not in known:
            remedy = did_you_mean(name, known) or (
                "; if it is a part of yours, import the module that registers it first: "
                "--plugin MODULE"
            )
            raise UserError(f"{key}: nothing is registered as {name!r}{remedy}")
