"""The paper profile as a LazyConfig: the same choices as Base-FocalRetinaNet-paper.yaml."""

import detectron2.data.transforms as T  # noqa: N812
from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.model_zoo import get_config
from fvcore.common.param_scheduler import MultiStepParamScheduler

from focal_retina.data.mapper import ResizeShortestEdge

from .models.focal_retinanet import model

dataloader = get_config("common/data/coco.py").dataloader
dataloader.train.mapper.use_instance_mask = False
dataloader.train.mapper.augmentations = [
    L(ResizeShortestEdge)(short_edge_length=(800,), sample_style="choice", max_size=1333),
    L(T.RandomFlip)(horizontal=True),
]

dataloader.test.mapper.augmentations = [L(ResizeShortestEdge)(short_edge_length=800, max_size=1333)]

optimizer = get_config("common/optim.py").SGD
optimizer.lr = 0.01
optimizer.params.weight_decay_norm = 0.0

# What --eval-only and the end of training evaluate besides, for instance
# L(DatasetMapperTTA)(min_sizes=[700, 800, 900], max_size=1333, flip=True); None for nothing.
dataloader.tta_mapper = None

train = get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"

# No warm-up: the paper does not mention one. Another train.max_iter scales the steps with it.
lr_multiplier = L(MultiStepParamScheduler)(
    values=[1.0, 0.1, 0.01], milestones=[60000, 80000, 90000]
)

model.anchor_generator.offset = 0.5
model.assigner.low_quality_matches = "none"
model.loss.normalizer.kind = "image"
model.loss.smooth_l1_beta = 0.11
model.postprocessor.score_thresh_last_level = 0.05
model.preprocessor.size_divisibility = 32
