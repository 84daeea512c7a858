"""The check, at import, that Detectron2 is there, and late enough."""

import inspect
import shlex
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def require_detectron2() -> None:
    """Import Detectron2.

    Warns that its model zoo cannot be imported where ``pkg_resources`` is missing.

    Raises:
        ImportError: Detectron2 is missing or too old. The message is one sentence with the command
            that installs it.
    """
    try:
        import_module("detectron2.config")  # a folder named detectron2 has no config
    except ModuleNotFoundError as error:
        if error.name not in ("detectron2", "detectron2.config"):
            raise
        installer = Path(__file__).with_name("install_detectron2.py")
        command = shlex.join([sys.executable, str(installer)])
        raise ImportError(f"focal_retina needs Detectron2; install it with: {command}") from error
    # Release 0.6 and main have the same number; of 0.6 many modules cannot be imported today.
    put_scalar = import_module("detectron2.utils.events").EventStorage.put_scalar
    if "cur_iter" not in inspect.signature(put_scalar).parameters:
        pip = shlex.join([sys.executable, *"-m pip install --force-reinstall --no-deps".split()])
        raise ImportError(
            "focal_retina needs a Detectron2 later than release 0.6, which "
            f"{Path(sys.modules['detectron2'].__path__[0])} is; install it with: {pip} "
            "--no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
        )
    if find_spec("pkg_resources") is None:
        command = shlex.join([sys.executable, "-m", "pip", "install"])
        warnings.warn(
            "Detectron2's model_zoo, and with it many LazyConfigs, needs pkg_resources, which "
            f'newer releases of setuptools lack; install it with: {command} "setuptools<81"',
            stacklevel=2,
        )
