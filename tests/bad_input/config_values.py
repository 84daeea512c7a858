"""Bad values of every key of a config."""

import math

import yaml
from bad_input.running import Case
from detectron2.config import get_cfg

from focal_retina import add_focal_retina_config
from focal_retina.settings.yaml_config import dotted_keys

NODES = (
    *("MODEL.FOCAL_RETINA.", "MODEL.RETINANET.", "MODEL.ANCHOR_GENERATOR.", "MODEL.FPN."),
    *("SOLVER.", "DATASETS.", "INPUT.", "TEST."),
)
HUGE, NAN, INF = 10**30, math.nan, math.inf

# What a value of a type is never, whatever the key.
WRONG_TYPE = {
    int: ["many", 1.5, [1], None],
    float: ["many", [1.0], None, NAN],
    str: [3, ["a"], None],
    bool: ["perhaps", 3, None],
    list: ["many", 3, None, {"A": 1}],
    tuple: ["many", 3, None, {"A": 1}],
}
# Values of the right type that are absurd all the same.
ABSURD = {
    "MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE": [0, -1, HUGE],
    "MODEL.FOCAL_RETINA.NORMALIZER_OFFSET": [-1, HUGE],
    "MODEL.FOCAL_RETINA.CLASS_ALPHA": [[2.0], [-0.1], ["a"], [NAN], [0.1] * 7],
    "MODEL.FOCAL_RETINA.FOCAL_STAR_BETA": [INF],
    "MODEL.FOCAL_RETINA.HINGE_THRESHOLD": [0.0, -1.0, 2.0, INF],
    "MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE": [0, -1, HUGE],
    "MODEL.FOCAL_RETINA.OHEM_NMS_THRESH": [-0.1, 1.1, INF],
    "MODEL.FOCAL_RETINA.SCORE_THRESH_TEST_LAST_LEVEL": [-0.1, 1.1, "low", [0.1], NAN],
    "MODEL.FOCAL_RETINA.REGNET.STEM_WIDTH": [0, -1, HUGE],
    "MODEL.FOCAL_RETINA.REGNET.DEPTH": [0, -1, HUGE],
    "MODEL.FOCAL_RETINA.REGNET.W_A": [-1.0, INF, 1e30],
    "MODEL.FOCAL_RETINA.REGNET.W_0": [0, -8, 12, HUGE],
    "MODEL.FOCAL_RETINA.REGNET.W_M": [1.0, -2.0, INF],
    "MODEL.FOCAL_RETINA.REGNET.GROUP_WIDTH": [0, -1, HUGE],
    "MODEL.FOCAL_RETINA.REGNET.SE_RATIO": [-0.1, 1.1, INF],
    "MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY": [-32, 7, 33, HUGE],
    "MODEL.RETINANET.NUM_CLASSES": [0, -1, 2, HUGE],
    "MODEL.RETINANET.IN_FEATURES": [[], ["p9"], [3]],
    "MODEL.RETINANET.NUM_CONVS": [-1, HUGE],
    "MODEL.RETINANET.IOU_THRESHOLDS": [
        [],
        [0.5, 0.4],
        [0.5, 0.5],
        [0.0, 0.5],
        [0.4, 1.5],
        [NAN, 0.5],
        ["a"],
    ],
    "MODEL.RETINANET.IOU_LABELS": [[], [0, 1], [0, -1, 1, 1], [0, 5, 1], ["a", "b", "c"]],
    "MODEL.RETINANET.PRIOR_PROB": [0.0, 1.0, -0.5, INF],
    "MODEL.RETINANET.SCORE_THRESH_TEST": [-0.1, 1.1, INF],
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": [0, -1, HUGE],
    "MODEL.RETINANET.NMS_THRESH_TEST": [-0.1, 1.1, INF],
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": [[], [1.0], [0.0] * 4, [-1.0] * 4, [NAN] * 4, ["a"] * 4],
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": [-1.0, INF],
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": [1.5, INF, -INF],
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": [-0.1, INF],
    "MODEL.ANCHOR_GENERATOR.SIZES": [
        *([], [[]], [[0]], [[-32]], [[NAN]], [[INF]], [["a"]], [[1e30]]),
        [[32], [64], [128]],
        [[32, 64], [64], [128], [256], [512]],
    ],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [
        *([], [[]], [[0.0]], [[-1.0]], [[NAN]], [[INF]], [["a"]], [[1.0], [2.0]]),
    ],
    "MODEL.ANCHOR_GENERATOR.ANGLES": [[], ["a"], [[NAN]]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": [-0.1, 1.0, INF],
    "MODEL.FPN.IN_FEATURES": [[], ["res9"], ["res5", "res3"], ["res3", "res5"], [3]],
    "MODEL.FPN.OUT_CHANNELS": [0, -1, HUGE],
    "SOLVER.MAX_ITER": [0, -1, HUGE],
    "SOLVER.BASE_LR": [0.0, -0.1, INF, 1e30],
    "SOLVER.BASE_LR_END": [-0.1, INF],
    "SOLVER.MOMENTUM": [-0.1, 1.0, INF],
    "SOLVER.WEIGHT_DECAY": [-0.1, INF],
    "SOLVER.WEIGHT_DECAY_NORM": [-0.1, INF],
    "SOLVER.WEIGHT_DECAY_BIAS": [-0.1, INF, "x", NAN, [0.1]],
    "SOLVER.GAMMA": [0.0, -0.1, INF],
    "SOLVER.STEPS": [[3, 1], [1, 1], [0], [-1], [NAN], ["a"], [1.5], [HUGE]],
    "SOLVER.NUM_DECAYS": [0, -1, HUGE],
    "SOLVER.WARMUP_FACTOR": [-0.1, 1.5, INF],
    "SOLVER.WARMUP_ITERS": [-1, HUGE],
    "SOLVER.CHECKPOINT_PERIOD": [0, -1, HUGE],
    "SOLVER.IMS_PER_BATCH": [0, -1, HUGE],
    "SOLVER.REFERENCE_WORLD_SIZE": [-1, 3, HUGE],
    "SOLVER.BIAS_LR_FACTOR": [-1.0, INF],
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": [0.0, -1.0, INF],
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": [0.0, -1.0],
    "DATASETS.TRAIN": [[], [3]],
    "DATASETS.TEST": [[3]],
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": [0, -1, HUGE],
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": [0, -1, HUGE],
    "DATASETS.PROPOSAL_FILES_TRAIN": [[3]],
    "DATASETS.PROPOSAL_FILES_TEST": [[3]],
    "INPUT.MIN_SIZE_TRAIN": [[], [-1], [1.5], ["a"], [NAN], [HUGE]],
    "INPUT.MAX_SIZE_TRAIN": [0, -1, HUGE],
    "INPUT.MIN_SIZE_TEST": [-1, HUGE],
    "INPUT.MAX_SIZE_TEST": [0, -1, HUGE],
    "INPUT.CROP.SIZE": [[], [0.5], [0.0, 0.0], [-1.0, 1.0], [NAN, 1.0], ["a", "b"], [2.0, 2.0]],
    "TEST.EXPECTED_RESULTS": [
        [3],
        [["bbox"]],
        [["bbox", "AP", "x", "y"]],
        [["bbox", "AP", NAN, 1]],
    ],
    "TEST.EVAL_PERIOD": [-1, HUGE],
    "TEST.KEYPOINT_OKS_SIGMAS": [[-1.0], ["a"], [NAN]],
    "TEST.DETECTIONS_PER_IMAGE": [0, -1, HUGE],
    "TEST.AUG.MIN_SIZES": [[], [0], [-1], ["a"], [HUGE]],
    "TEST.AUG.MAX_SIZE": [0, -1, HUGE],
    "TEST.PRECISE_BN.NUM_ITER": [0, -1, HUGE],
}
# Texts that a trainer of the user's may know more of.
FREE = {"MODEL.FOCAL_RETINA.TIMM.NAME", "SOLVER.LR_SCHEDULER_NAME"}


def defaults() -> dict[str, object]:
    """The keys of the nodes, but for nodes within, and their default values."""
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    flat = dotted_keys(cfg)
    return {k: v for k, v in flat.items() if k.startswith(NODES) and not isinstance(v, dict)}


def bad_values(key: str, default: object) -> list:
    unknown_name = ["nonesuch"] if isinstance(default, str) and key not in FREE else []
    return [*WRONG_TYPE.get(type(default), []), *unknown_name, *ABSURD.get(key, [])]


def yaml_case(case_id: str, key: str, value: object, culprit: str) -> Case:
    """Train with a YAML that differs in one key from the tiny job."""
    node = {key.split(".")[-1]: value}
    for name in reversed(key.split(".")[:-1]):
        node = {name: node}
    text = "_BASE_: {jobs}/tiny.yaml\nOUTPUT_DIR: {here}/out\n" + yaml.safe_dump(node)
    arguments = ("--config-file", "{here}/a.yaml")
    return Case(case_id, "train_net", arguments, culprit, {"a.yaml": text})


def cases() -> list[Case]:
    """Every key: misspelt, and with each of its bad values."""
    found = []
    for key, default in defaults().items():
        misspelt = f"{key[:-1]}Q"
        found.append(yaml_case(f"{key}-misspelt", misspelt, default or 1, misspelt))
        for number, value in enumerate(bad_values(key, default)):
            # fvcore says no more of a node in the place of a value.
            culprit = key.split(".")[-1] if isinstance(value, dict) else key
            found.append(yaml_case(f"{key}-{number}", key, value, culprit))
    return found
