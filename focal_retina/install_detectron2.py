"""Install Detectron2 into the environment of the Python that runs this file.

    python focal_retina/install_detectron2.py

A file to run, not a module (``-m``): the package cannot be imported before Detectron2 is there.
A Detectron2 that can already be imported is used and never replaced.
"""

import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

REQUIREMENT = (
    "sal-detectron2==0.7.2"
    " --hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
)
# The wheel is tagged CPython 3.10, but its Python files run on 3.10 to 3.13. Only with --target
# does pip take a wheel of another tag. Its metadata (numpy<2, black) is out of date: --no-deps.
OPTIONS = (
    "--python-version 3.10 --implementation cp --abi none --platform any --only-binary=:all: "
    "--no-deps --require-hashes"
).split()


def install(site_packages: str) -> None:
    """Let pip put the pinned wheel into the folder ``site_packages``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"  # pip takes a hash from a file only
        file.write_text(REQUIREMENT)
        pip = [sys.executable, "-m", "pip", "install", "--target", site_packages]
        subprocess.run([*pip, *OPTIONS, "-r", str(file)], check=True)


def main() -> None:
    spec = find_spec("detectron2")
    if spec is None or spec.origin is None:  # no origin: a folder of that name, not the package
        install(sysconfig.get_path("purelib"))
    else:
        print(f"Detectron2 is there already: {Path(spec.origin).parent}")


if __name__ == "__main__":
    main()
