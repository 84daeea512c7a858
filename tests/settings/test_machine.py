"""What is missing is said before anything is built."""

import logging

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from focal_retina.settings.machine import check_datasets, usable_device


def test_a_dataset_that_writes_its_json_when_loaded_is_fine():
    DatasetCatalog.register("written_later", list)
    MetadataCatalog.get("written_later").json_file = "none.json"
    check_datasets(["written_later"], "DATASETS.REGISTER")


def test_without_cuda_the_device_becomes_the_cpu_with_a_line_in_the_log(caplog):
    expected = {True: ("cuda:0", ""), False: ("cpu", "MODEL.DEVICE becomes cpu")}
    device, line = expected[torch.cuda.is_available()]
    with caplog.at_level(logging.INFO):
        assert usable_device("MODEL.DEVICE", "cuda:0") == device
    assert line in caplog.text
    assert usable_device("MODEL.DEVICE", "cpu") == "cpu"
