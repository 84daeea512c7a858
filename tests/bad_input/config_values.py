"""Bad values of every key of a config."""

import math
from pathlib import Path

import yaml
from bad_input.running import Case, training
from detectron2.config import get_cfg

from focal_retina import add_focal_retina_config
from focal_retina.settings.flat_keys import dotted_keys, nested_keys

NODES = (
    *("MODEL.FOCAL_RETINA.", "MODEL.RETINANET.", "MODEL.ANCHOR_GENERATOR.", "MODEL.FPN."),
    *("SOLVER.", "DATASETS.", "INPUT.", "TEST."),
)
# What a value of a type is never, whatever the key.
WRONG_TYPE = {
    int: ["many", 1.5, [1], None],
    float: ["many", [1.0], None, math.nan],
    str: [3, ["a"], None],
    bool: ["perhaps", 3, None],
    list: ["many", 3, None, {"A": 1}],
    tuple: ["many", 3, None, {"A": 1}],
}
# Values of the right type that are absurd all the same.
ABSURD = yaml.safe_load(Path(__file__).with_name("absurd_values.yaml").read_text())
ABSURD.pop("huge")  # the anchor of a number
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
    return training(case_id, culprit, yaml.safe_dump(nested_keys({key: value})))


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
