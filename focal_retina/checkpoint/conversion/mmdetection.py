"""mmdetection 2.x and 3.x: ``RetinaNet`` with a ResNet.

Its anchors come in the order (ratio, size), its classes have no background, and there is no ReLU
between P6 and P7. What the weights do not tell is read from the config's text, which mmdetection
keeps in its checkpoints.
"""

import re

from focal_retina.checkpoint.conversion import common
from focal_retina.errors import UserError, shortened

KNOWN_BY = {"bbox_head.retina_cls.weight"}
DROPPED = r"num_batches_tracked$|^data_preprocessor\."


def names(has_norm: bool) -> common.Renaming:
    """Return the renaming. A head with normalisation has three layers per convolution."""
    step = 3 if has_norm else 2
    return (
        *common.resnet_names(r"backbone\."),
        (r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: common.fpn_name("lateral", m[1])),
        (r"^neck\.fpn_convs\.([0-2])\.conv\.", lambda m: common.fpn_name("output", m[1])),
        (r"^neck\.fpn_convs\.3\.conv\.", "backbone.top_block.p6."),
        (r"^neck\.fpn_convs\.4\.conv\.", "backbone.top_block.p7."),
        (r"^bbox_head\.retina_cls\.", "head.cls_score."),
        (r"^bbox_head\.retina_reg\.", "head.bbox_pred."),
        (r"^bbox_head\.cls_convs\.", "head.cls_subnet."),
        (r"^bbox_head\.reg_convs\.", "head.bbox_subnet."),
        (r"subnet\.(\d)\.conv\.", lambda m: f"subnet.{step * int(m[1])}."),
        (r"subnet\.(\d)\.gn\.", lambda m: f"subnet.{step * int(m[1]) + 1}."),
    )


def convert(weights: dict, checkpoint: dict) -> common.Conversion:
    """Convert a RetinaNet; settings that its ``meta`` does not tell are mmdetection's defaults."""
    has_norm = "bbox_head.cls_convs.0.gn.weight" in weights
    converted = common.rename_all(weights, names(has_norm), DROPPED)
    common.add_missing_biases(converted)
    common.transpose_anchors(converted)
    meta = checkpoint.get("meta")
    meta = {} if meta is None else meta
    if not isinstance(meta, dict):
        raise UserError(f"its meta is a {type(meta).__name__}, not a dict")
    stated = [dict.get(meta, key) for key in ("cfg", "config")]
    text = next((x for x in stated if x is not None), "")
    if not isinstance(text, str):
        raise UserError(f"the config in its meta is a {type(text).__name__}, not text")
    config = {
        **common.RGB,
        "MODEL.FOCAL_RETINA.CLIP_BEFORE_NMS": True,
        "MODEL.FOCAL_RETINA.P7_RELU": False,
        **_stated(text),
    }
    notes = [] if text else ["the file has no config: took the settings of retinanet_r50_fpn"]
    return common.Conversion(converted, config, _class_names(meta), notes)


def _class_names(meta: dict) -> object:
    inner = dict.get(meta, "dataset_meta")
    dataset = dict.items(inner if isinstance(inner, dict) else meta)
    return next((value for key, value in dataset if str(key).lower() == "classes"), None)


def _stated(text: str) -> dict[str, object]:
    """Return the keys that the text of a config tells, which is Python or json."""
    config: dict[str, object] = {}
    for key, name in (("MODEL.PIXEL_MEAN", "mean"), ("MODEL.PIXEL_STD", "std")):
        if numbers := _numbers(name, text, 3):
            config[key] = numbers
    if re.search(r"(to_rgb|bgr_to_rgb)['\"]?\s*[=:]\s*(False|false)", text):
        config["INPUT.FORMAT"] = "BGR"
    if re.search(r"\bstyle['\"]?\s*[=:]\s*['\"]caffe", text):
        config["MODEL.RESNETS.STRIDE_IN_1X1"] = True
    if re.search(r"relu_before_extra_convs['\"]?\s*[=:]\s*(True|true)", text):
        config["MODEL.FOCAL_RETINA.P7_RELU"] = True
    if numbers := _numbers("target_stds", text, 4):
        config["MODEL.RETINANET.BBOX_REG_WEIGHTS"] = [1 / x for x in numbers]
    return config


def _numbers(name: str, text: str, count: int) -> list[float]:
    """Return the list that a text gives the name; an empty one if there is none.

    A UserError says that it is not of so many numbers above 0, or for means from 0 on.
    """
    found = re.search(rf"\b{name}['\"]?\s*[=:]\s*\[([^\[\]]*)\]", text)
    if not found:
        return []
    numbers = [float(x) for x in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", found[1])]
    if len(numbers) != count or not all(0 <= x < 1e9 and (x or name == "mean") for x in numbers):
        raise UserError(f"the config in its meta has {name}=[{shortened(found[1])}]")
    return numbers
