"""What is missing is said before anything is built."""

import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from focal_retina.errors import UserError
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.machine import check_datasets, usable_device


def test_an_unknown_dataset_comes_with_the_closest_name_and_the_key_that_declares_it():
    with pytest.raises(UserError, match=r"coco_2017_trian .*mean coco_2017_train\?.*REGISTER"):
        check_datasets(["coco_2017_trian"], "DATASETS.REGISTER")


def test_a_missing_file_of_a_dataset_of_detectron2_names_the_environment_variable():
    with pytest.raises(UserError, match="lvis_v1_train: .*lvis_v1_train.json .*DETECTRON2_DATA"):
        check_datasets(["lvis_v1_train"], "DATASETS.REGISTER")


def test_a_dataset_that_writes_its_json_when_loaded_is_fine():
    DatasetCatalog.register("written_later", list)
    MetadataCatalog.get("written_later").json_file = "none.json"
    check_datasets(["written_later"], "DATASETS.REGISTER")
    DatasetCatalog.remove("written_later")


def test_without_cuda_the_device_becomes_the_cpu_with_a_line_in_the_log(caplog):
    expected = {True: ("cuda:0", ""), False: ("cpu", "MODEL.DEVICE becomes cpu")}
    device, line = expected[torch.cuda.is_available()]
    with caplog.at_level(logging.INFO):
        assert usable_device("MODEL.DEVICE", "cuda:0") == device
    assert line in caplog.text
    assert usable_device("MODEL.DEVICE", "cpu") == "cpu"


def test_unreadable_weights_are_named():
    with pytest.raises(UserError, match="MODEL.WEIGHTS none.pth cannot be loaded: no such file"):
        with weights_errors("MODEL.WEIGHTS", "none.pth"):
            raise FileNotFoundError("no such file")
