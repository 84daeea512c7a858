"""Registration into Detectron2's registries that survives a second import or a reload."""

from collections.abc import Callable
from typing import Any, TypeVar

from fvcore.common.registry import Registry

from focal_retina.detectron2_internals import registered_objects

T = TypeVar("T", bound=Any)


def register(registry: Registry) -> Callable[[T], T]:
    """Return a decorator that registers a class or function under its own name.

    The same object, imported again or reloaded, replaces its earlier self. A different object
    under the same name raises ``AssertionError``, as Detectron2's own ``register`` does.
    """

    def decorate(obj: T) -> T:
        registered = registered_objects(registry)
        if getattr(registered.get(obj.__name__), "__module__", None) == obj.__module__:
            del registered[obj.__name__]
        registry.register(obj)
        return obj

    return decorate
