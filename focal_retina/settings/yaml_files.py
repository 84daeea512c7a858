"""The files of a YAML config: read once each, within limits, and merged.

Detectron2's own reader copies what an alias stands for, recurses into whatever there is, takes the
last of duplicate keys, reads a base as often as it is named, and does not say which file failed.
"""

import math
import os
import stat

import yaml
from detectron2.utils.file_io import PathManager

from focal_retina.errors import UserError

_MAX_BYTES = 2**18
_MAX_VALUES = 2**18
_MAX_DEPTH = 50
_MAX_FILES = 100
_TAG = "tag:yaml.org,2002:"


def read_config(config_file: str, trust_config: bool) -> dict:
    """Return a config as one tree of plain data, what its ``_BASE_`` names merged in.

    Args:
        trust_config: let Python tags run their code.

    Raises:
        UserError: a file that is missing, no YAML of keys and values, too large, hostile or its
            own base, or that has a key twice.
    """
    return _Reader(trust_config).read(config_file, above=())


def files_of_config(config_file: str, trust_config: bool) -> list[str]:
    """Return the paths of the files that :func:`read_config` reads; errors as there."""
    reader = _Reader(trust_config)
    reader.read(config_file, above=())
    return [*reader.found]


class _Reader:
    """Reads files and their bases; ``found`` has the trees of those that are read already."""

    def __init__(self, trust_config: bool):
        self.trust_config = trust_config
        self.found: dict[str, dict] = {}

    def read(self, config_file: str, above: tuple[str, ...]) -> dict:
        """Return the tree of a file that the files ``above`` lead to, its bases merged in."""
        path = local_path(config_file, above)
        if path in map(os.path.realpath, above):
            raise UserError(f"{above[-1]}: its _BASE_ {config_file} leads back to itself")
        if path not in self.found:
            if len(above) + len(self.found) >= _MAX_FILES:
                raise UserError(f"{above[0]} has more than {_MAX_FILES} files by way of _BASE_")
            tree = _parse(config_file, _content(config_file, path), self.trust_config)
            merged: dict = {}
            for base in _bases(config_file, tree):
                _merge(self.read(base, (*above, config_file)), merged, config_file)
            _merge(tree, merged, config_file)
            self.found[path] = merged
        return self.found[path]


def local_path(config_file: str, above: tuple[str, ...] = ()) -> str:
    """Return the path of a file; one with a scheme, such as detectron2://, is fetched first."""
    place = f"{above[-1]}: its _BASE_" if above else "config file"
    path = config_file
    try:
        if "://" in config_file:
            path = PathManager.get_local_path(config_file)
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise UserError(f"{place} {config_file} does not exist") from error
    except Exception as error:  # whatever fetches it may raise any
        raise UserError(f"{place} {config_file} cannot be read: {error}") from error
    if not stat.S_ISREG(mode):
        state = "is a folder" if stat.S_ISDIR(mode) else "is no regular file"
        raise UserError(f"{place} {config_file} {state}")
    return os.path.realpath(path)


def _content(config_file: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError(f"{config_file} is no config: it has more than {_MAX_BYTES} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"config file {config_file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{config_file} is not text in UTF-8: {error}") from error


def _parse(config_file: str, text: str, trust_config: bool) -> dict:
    try:
        loader = (_TrustingLoader if trust_config else _SafeLoader)(text)
        loader.name = config_file
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{config_file}: it is empty, or not keys with values")
        if _count(node, {}) > _MAX_VALUES:
            raise UserError(
                f"{config_file} has aliases (*) of themselves or of more than {_MAX_VALUES} "
                f"values, or values nested deeper than {_MAX_DEPTH}"
            )
        return loader.construct_document(node)
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{config_file} nests its values too deep") from error
    except Exception as error:  # a malformed value, such as !!timestamp a, may raise any
        raise UserError(f"{config_file} is not valid YAML: {error}") from error


def _bases(config_file: str, tree: dict) -> list[str]:
    """Take ``_BASE_`` out of a tree; return the paths that it names."""
    bases = tree.pop("_BASE_", [])
    bases = bases if isinstance(bases, list) else [bases]
    if not all(isinstance(base, str) and base for base in bases):
        raise UserError(f"{config_file}: its _BASE_ is neither a path nor a list of them")
    folder = os.path.dirname(config_file)
    expanded = map(os.path.expanduser, bases)
    return [base if "://" in base else os.path.join(folder, base) for base in expanded]


def _merge(tree: dict, into: dict, config_file: str) -> None:
    """Merge a tree into one of the bases; what the bases have is never changed itself."""
    for key, value in tree.items():
        if isinstance(value, dict):
            node = into.get(key, {})
            if not isinstance(node, dict):
                raise UserError(f"{config_file}: {key} has keys, but its _BASE_ gives it a value")
            into[key] = copy = {**node}
            _merge(value, copy, config_file)
        else:
            into[key] = value


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


class _SafeLoader(yaml.SafeLoader):
    """Refuses Python tags, and keys that are no words or are there twice."""

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


class _TrustingLoader(_SafeLoader, yaml.UnsafeLoader):
    """Runs the code of Python tags."""

    trusted = True
