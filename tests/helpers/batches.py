"""Small configs, and batches of random images with objects, for tests."""

import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.structures import Boxes, Instances

from focal_retina import add_focal_retina_config

GN_R18 = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.FPN.NORM": "GN",
    "MODEL.FPN.OUT_CHANNELS": 64,
    "MODEL.RETINANET.NORM": "GN",
    "MODEL.RETINANET.NUM_CONVS": 1,
}


def detectron2_retinanet_config(overrides=None):
    """Return Detectron2's own R-50 1x RetinaNet config on the CPU, with our keys added."""
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"), allow_unsafe=True
    )
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.merge_from_list([x for item in (overrides or {}).items() for x in item])
    return cfg


def random_objects(image_size, num_objects, num_classes, generator):
    """Return objects of random place, size and class."""
    height, width = image_size
    size = torch.tensor([width, height])
    corners = torch.rand(num_objects, 2, generator=generator) * size * 0.6
    sides = (torch.rand(num_objects, 2, generator=generator) * 0.35 + 0.05) * size
    objects = Instances(image_size)
    objects.gt_boxes = Boxes(torch.cat([corners, corners + sides], dim=1))
    objects.gt_classes = torch.randint(num_classes, (num_objects,), generator=generator)
    return objects


def random_batch(image_sizes, num_objects, num_classes=80, seed=0):
    """Return a batch as Detectron2's data loader makes it, of random pixels and objects."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8),
            "instances": random_objects(size, count, num_classes, generator),
        }
        for size, count in zip(image_sizes, num_objects, strict=True)
    ]
