"""The files of a YAML config, looked through before Detectron2 merges them.

Detectron2 copies what an alias stands for, recurses into whatever there is, takes the last of
duplicate keys, and does not say which file of a ``_BASE_`` chain it failed at.
"""

import math
import os
from collections.abc import Iterator

import yaml
from detectron2.utils.file_io import PathManager

from focal_retina.errors import UserError

_MAX_BYTES = 2**18
_MAX_VALUES = 2**18
_MAX_DEPTH = 50


def check_files(config_file: str, above: tuple[str, ...] = ()) -> None:
    """Look through a config and the files that its ``_BASE_`` names; tags are not run.

    Args:
        above: the files that lead to this one.

    Raises:
        UserError: a file that is missing, no YAML of keys and values, too large, hostile or its
            own base, or that has a key twice.
    """
    if "://" in config_file:  # Detectron2 fetches it
        return
    if not PathManager.isfile(config_file):
        place = f"{above[-1]}: its _BASE_" if above else "config file"
        state = "is a folder" if PathManager.isdir(config_file) else "does not exist"
        raise UserError(f"{place} {config_file} {state}")
    if os.path.realpath(config_file) in map(os.path.realpath, above):
        raise UserError(f"{above[-1]}: its _BASE_ {config_file} leads back to itself")
    node = _read(config_file)
    _check_nodes(config_file, node)
    for base in _bases(config_file, node):
        check_files(base, (*above, config_file))


def _read(config_file: str) -> yaml.MappingNode:
    try:
        with PathManager.open(config_file, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"config file {config_file} cannot be read: {error}") from error
    if len(content) > _MAX_BYTES:
        raise UserError(f"{config_file} is no config: it has more than {_MAX_BYTES} bytes")
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        loader.name = config_file
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise UserError(f"{config_file} is not text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(
            f"{config_file} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
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


def _check_nodes(config_file: str, node: yaml.MappingNode) -> None:
    """Check what Detectron2 tells the version of a config by, before it checks anything itself."""
    for key, value in node.value:
        if key.value in ("MODEL", "TEST") and not isinstance(value, yaml.MappingNode):
            raise UserError(f"{config_file}: {key.value} takes keys with values")
        if key.value == "VERSION" and value.value not in ("1", "2"):
            raise UserError(f"{config_file}: VERSION is the one of Detectron2's configs, 2")


def _bases(config_file: str, node: yaml.MappingNode) -> Iterator[str]:
    """Yield the paths of the bases, as fvcore finds them."""
    for key, value in node.value:
        if key.value == "_BASE_":
            names = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for name in names:
                if not isinstance(name, yaml.ScalarNode) or not name.value:
                    raise UserError(
                        f"{config_file}: its _BASE_ is neither a path nor a list of them"
                    )
                yield os.path.join(os.path.dirname(config_file), os.path.expanduser(name.value))


def _count(node: yaml.Node, counts: dict[int, float], depth: int = 0) -> float:
    """Return how many values a node is with its aliases written out; infinity where there is no
    end to them, or they are nested too deep.
    """
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
    """Refuses what YAML has and a config has not: keys that are no words, or are there twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _problem(key, "found a key that is no word")
            if key.value in seen:
                raise _problem(key, f"found the key {key.value} twice")
            seen.add(key.value)
        return node


_TAG = "tag:yaml.org,2002:"


def _problem(key: yaml.Node, sentence: str) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, sentence, key.start_mark)
