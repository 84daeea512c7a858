"""Detectron2's two-stage configs made small, and a dataset that has what each of them reads."""

import json
from pathlib import Path

import cv2
import numpy as np
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.projects.point_rend import add_pointrend_config

from focal_retina.data.shapes import write_shapes

CONFIGS = {
    "faster_rcnn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "mask_rcnn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "cascade_rcnn": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "keypoint_rcnn": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "pointrend": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "panoptic_fpn": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
}

HERE = Path(__file__).parent


def two_stage_config(kind, generator="FocalProposalGenerator"):
    """Return one of Detectron2's configs with the two keys changed, and made small."""
    cfg = get_cfg()
    if kind == "pointrend":
        add_pointrend_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file(CONFIGS[kind]))
    if kind == "pointrend":
        cfg.merge_from_file(str(HERE / "pointrend.yaml"))
    cfg.merge_from_file(str(HERE / "small_two_stage.yaml"))
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = generator
    return cfg


def register_images(name: str, folder: Path, only_persons: bool) -> int:
    """Register four images with boxes, polygons, keypoints and labels of pixels; return K.

    Images, boxes and polygons are COCO's where they are there, else drawn shapes; keypoints and
    labels of pixels, which COCO has in further downloads, are made from the boxes.
    """
    image_root, content = _coco_or_shapes(folder)
    categories = [c["id"] for c in content["categories"]][: 1 if only_persons else None]
    objects = [
        _with_every_label(a)
        for a in content["annotations"]
        if a["category_id"] in categories and not a["iscrowd"]
    ]
    ids = sorted({a["image_id"] for a in objects})[:4]
    content["images"] = [x for x in content["images"] if x["id"] in ids]
    content["annotations"] = [a for a in objects if a["image_id"] in ids]
    content["categories"] = [c for c in content["categories"] if c["id"] in categories]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))

    def load():
        return [_with_pixel_labels(x, folder) for x in load_coco_json(path, image_root, name)]

    person = MetadataCatalog.get("keypoints_coco_2017_val")
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=str(path),
        image_root=image_root,
        evaluator_type="coco",
        keypoint_names=person.keypoint_names,
        keypoint_flip_map=person.keypoint_flip_map,
    )
    return len(categories)


def _coco_or_shapes(folder: Path) -> tuple[str, dict]:
    coco = MetadataCatalog.get("coco_2017_val")
    if Path(coco.json_file).is_file():
        return coco.image_root, json.loads(Path(coco.json_file).read_text())
    drawn = write_shapes(folder, "drawn", 8, image_size=96)
    return str(drawn / "images"), json.loads((drawn / "instances.json").read_text())


def _with_every_label(annotation: dict) -> dict:
    x, y, width, height = annotation["bbox"]
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    places = np.linspace(0.1, 0.9, 17)
    keypoints = np.stack([x + width * places, y + height * places, np.full(17, 2)], axis=1)
    made = {"keypoints": keypoints.flatten().tolist(), "num_keypoints": 17}
    return {"segmentation": [corners], **annotation, **made}


def _with_pixel_labels(record: dict, folder: Path) -> dict:
    labels = np.ones((record["height"], record["width"]), dtype=np.uint8)
    for annotation in record["annotations"]:
        x, y, width, height = (round(v) for v in annotation["bbox"])
        labels[y : y + height, x : x + width] = 0
    path = folder / f"pixels_{record['image_id']}.png"
    cv2.imwrite(str(path), labels)
    return {**record, "sem_seg_file_name": str(path)}
