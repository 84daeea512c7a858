"""Package metadata; the requirements are read from requirements/*.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
EXTRAS = ("eval", "timm", "export", "dev")


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    # Read as text: importing the package needs Detectron2, which is installed after it.
    source = (ROOT / "focal_retina" / "__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]


setup(
    name="focal_retina",
    version=version(),
    description='The RetinaNet of "Focal Loss for Dense Object Detection" as a Detectron2 plug-in',
    license="Apache-2.0",
    packages=find_packages(include=["focal_retina", "focal_retina.*"]),
    python_requires=">=3.10,<3.14",
    install_requires=requirements("base"),
    extras_require={name: requirements(name) for name in EXTRAS},
)
