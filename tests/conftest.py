"""Fixtures of the whole suite."""

import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage


def pytest_addoption(parser):
    parser.addoption(
        "--all-bad-input", action="store_true", help="try all of tests/bad_input, not a share"
    )


@pytest.fixture
def event_storage():
    with EventStorage(0) as storage:
        yield storage


@pytest.fixture(autouse=True)
def forget_drawn_shapes():
    """Let every test register the drawn shapes in its own folder."""
    yield
    for name in ("shapes_train", "shapes_val"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture(autouse=True)
def propagate_logs():
    """Let caplog see Detectron2's loggers, whose set-up turns propagation off."""
    yield
    for name in ("detectron2", "fvcore", "focal_retina"):
        logging.getLogger(name).propagate = True
