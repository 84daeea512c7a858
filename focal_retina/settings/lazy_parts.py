"""Building the parts that a LazyConfig names."""

import re

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from focal_retina.data.mapper import NamingMapper

# The wording of Python and of Detectron2's ``instantiate``.
_MISTAKEN_CALL = re.compile(
    r"\(\) (got an unexpected keyword|missing \d+ required)|is an invalid keyword argument for"
    r"|does not define a callable"
)


def build_part(cfg: DictConfig, key: str):
    """Return what a node of the config makes; a mapper in it will name images it cannot read.

    Raises:
        ValueError: an argument is unknown or missing; also whatever the parts raise.
    """
    node = OmegaConf.select(cfg, key)
    if not isinstance(node, DictConfig):
        return instantiate(node)
    arguments = {name: node[name] for name in node}
    try:
        if isinstance(arguments.get("mapper"), DictConfig):
            arguments["mapper"] = NamingMapper(instantiate(node.mapper))
        return instantiate(arguments)
    except (AssertionError, ImportError, TypeError) as error:
        is_mistake = isinstance(error, ImportError) or _MISTAKEN_CALL.search(str(error))
        if not is_mistake:
            raise
        raise ValueError(f"{key}: {error}") from error
