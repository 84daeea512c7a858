"""The files of a YAML config, looked through before Detectron2 merges them.

Detectron2 copies what an alias stands for, recurses into whatever there is, takes the last of
duplicate keys, and does not say which file of a ``_BASE_`` chain it failed at.
"""

import math
import os

import yaml
from detectron2.utils.file_io import PathManager

from focal_retina.errors import UserError

_MAX_BYTES = 2**18
_MAX_VALUES = 2**18
_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"


def check_files(config_file: str, trust_config: bool, above: tuple[str, ...] = ()) -> list[str]:
    """Look through a config and the files that its ``_BASE_`` names; return the files.

    Tags are not run.

    Args:
        trust_config: allow Python tags.
        above: the files that lead to this one.

    Raises:
        UserError: a file that is missing, no YAML of keys and values, too large, hostile or its
            own base, or that has a key twice.
    """
    if "://" in config_file:  # Detectron2 fetches it
        return []
    if not PathManager.isfile(config_file):
        place = f"{above[-1]}: its _BASE_" if above else "config file"
        state = "is a folder" if PathManager.isdir(config_file) else "does not exist"
        raise UserError(f"{place} {config_file} {state}")
    if os.path.realpath(config_file) in map(os.path.realpath, above):
        raise UserError(f"{above[-1]}: its _BASE_ {config_file} leads back to itself")
    files = [config_file]
    for key, value in _read(config_file, trust_config).value:
        # Detectron2 tells the version of a config by these, before it checks anything itself.
        if key.value in ("MODEL", "TEST") and not isinstance(value, yaml.MappingNode):
            raise UserError(f"{config_file}: {key.value} takes keys with values")
        if key.value == "VERSION" and value.value not in ("1", "2"):
            raise UserError(f"{config_file}: VERSION is the one of Detectron2's configs, 2")
        if key.value == "_BASE_":
            for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(base, yaml.ScalarNode) or not base.value:
                    raise UserError(
                        f"{config_file}: its _BASE_ is neither a path nor a list of them"
                    )
                path = os.path.join(os.path.dirname(config_file), os.path.expanduser(base.value))
                files += check_files(path, trust_config, (*above, config_file))
    return files


def _read(config_file: str, trust_config: bool) -> yaml.MappingNode:
    try:
        with PathManager.open(config_file, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"config file {config_file} cannot be read: {error}") from error
    if len(content) > _MAX_BYTES:
        raise UserError(f"{config_file} is no config: it has more than {_MAX_BYTES} bytes")
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        loader.name, loader.trusted = config_file, trust_config
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise UserError(f"{config_file} is not text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{config_file} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{config_file} nests its values too deep") from error
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{config_file}: it is empty, or not keys with values")
    if _count(node, {}) > _MAX_VALUES:
        raise UserError(
            f"{config_file} has aliases (*) of themselves or of more than {_MAX_VALUES} values, or "
            f"values nested deeper than {_MAX_DEPTH}"
        )
    return node


def _count(node: yaml.Node, counts: dict[int, float], depth: int = 0) -> float:
    """Count the values of a node, its aliases written out; infinity: endless, or too deep."""
    if id(node) not in counts:
        counts[id(node)] = math.inf  # for the aliases within to itself
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        if children and depth >= _MAX_DEPTH:
            return math.inf
        counts[id(node)] = 1 + sum(_count(child, counts, depth + 1) for child in children)
    return counts[id(node)]


class _Loader(yaml.SafeLoader):
    """Refuses keys that are no words or are there twice, and Python tags unless ``trusted``."""

    trusted = False

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        node = super().compose_node(parent, index)
        if node.tag.startswith(f"{_TAG}python/") and not self.trusted:
            raise UserError(
                f"{self.name}, line {node.start_mark.line + 1}, has a Python tag (!!python), as "
                "Detectron2's own Base-RetinaNet.yaml does, and loading it can run any code: write "
                "the value as plain YAML, or pass --trust-config if you trust the file"
            )
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            is_word = key.tag in (f"{_TAG}str", f"{_TAG}merge")
            if not is_word or key.value in seen:
                problem = f"found the key {key.value} twice" if is_word else "found a key, no word"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return node
