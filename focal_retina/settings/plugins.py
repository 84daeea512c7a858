"""Parts and config keys of other projects, which the command line names."""

import importlib
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from detectron2.config import CfgNode

_add_configs: dict[str, Callable[[CfgNode], None]] = {}


def add_plugin_argument(parser: ArgumentParser) -> None:
    """Add ``--plugin``, which :func:`load_plugin` acts on while it is parsed."""
    parser.add_argument(
        "--plugin",
        type=load_plugin,
        action="append",
        default=[],
        metavar="MODULE[:ADD_CONFIG]",
        help="import a module of yours, which registers its parts, and call its function that "
        "adds keys to a YAML config; may be repeated",
    )


def load_plugin(plugin: str) -> str:
    """Import a module, and let its function add its keys to every YAML config read from now on.

    Args:
        plugin: ``package.module``, or ``package.module:add_config`` with a function of a
            ``CfgNode``, as Detectron2's projects have it.

    Raises:
        ArgumentTypeError: there is no such module or function.
    """
    module, _, name = plugin.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ArgumentTypeError(f"{error} (PYTHONPATH names the folders of modules)") from error
    if name:
        add_config = getattr(found, name, None)
        if not callable(add_config):
            raise ArgumentTypeError(f"{module} has no function {name}")
        _add_configs[plugin] = add_config
    return plugin


def add_plugin_configs(cfg: CfgNode) -> None:
    """Add the keys of all plug-ins to a config."""
    for add_config in _add_configs.values():
        add_config(cfg)
