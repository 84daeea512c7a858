"""Cases of post-processing: the head's outputs -> detections."""

from collections.abc import Iterator

import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import ImageList, Instances
from torch import Tensor

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.random_inputs import (
    DELTA_STD,
    LOGIT_MEANS,
    as_channels_last,
    random_outputs,
)
from experiments.benchmark.retinanets import all_retinanets
from experiments.benchmark.setting import Setting


def postprocessing_cases(setting: Setting) -> Iterator[Case]:
    """Yield the post-processing of one image, with its anchors, for three numbers of candidates."""
    detectron2, torchvision, ours = all_retinanets(setting)
    image_sizes = [setting.image_size]
    images = ImageList(torch.zeros(1, 3, *setting.image_size), image_sizes)
    features = [torch.zeros(1, 1, *size, device=setting.device) for size in setting.grid_sizes]
    deltas = random_outputs(setting, 4, 0.0, DELTA_STD)
    our_deltas = as_channels_last(deltas)
    for candidates, mean in LOGIT_MEANS.items():
        logits = random_outputs(setting, setting.num_classes, mean, std=1.0)
        our_logits = as_channels_last(logits)

        def detectron2_detections(logits=logits):
            return detectron2.forward_inference(images, features, (logits, deltas))[0]

        def torchvision_detections(logits=logits):
            anchors = [x.tensor for x in detectron2.anchor_generator(features)]
            outputs = {
                "cls_logits": [permute_to_N_HWA_K(x, setting.num_classes) for x in logits],
                "bbox_regression": [permute_to_N_HWA_K(x, 4) for x in deltas],
            }
            return torchvision.postprocess_detections(outputs, [anchors], image_sizes)[0]

        def our_detections(logits=our_logits):
            anchors = ours.anchor_generator(features)
            return ours.postprocessor(anchors, logits, our_deltas, image_sizes)[0]

        implementations = {
            "Detectron2": Implementation(detectron2_detections, result_of_instances),
            "torchvision": Implementation(
                torchvision_detections, note="clips boxes before NMS, not after"
            ),
            "focal_retina": Implementation(our_detections, result_of_instances),
        }
        yield Case("post-processing", f"candidates: {candidates}", "Detectron2", implementations)


def result_of_instances(instances: Instances) -> dict[str, Tensor]:
    """Return boxes, scores and classes, in the order of the detections."""
    return {
        "boxes": instances.pred_boxes.tensor,
        "scores": instances.scores,
        "classes": instances.pred_classes,
    }
