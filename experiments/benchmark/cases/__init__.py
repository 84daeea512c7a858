"""The cases of all groups."""

from experiments.benchmark.cases.evaluation import evaluation_cases
from experiments.benchmark.cases.labelling import labelling_cases
from experiments.benchmark.cases.losses import loss_cases
from experiments.benchmark.cases.postprocessing import postprocessing_cases
from experiments.benchmark.cases.scaling import scaling_cases
from experiments.benchmark.cases.whole_model import (
    inference_cases,
    throughput_cases,
    training_cases,
)

CASES = {
    "loss": loss_cases,
    "labelling": labelling_cases,
    "post-processing": postprocessing_cases,
    "training": training_cases,
    "inference": inference_cases,
    "throughput": throughput_cases,
    "evaluation": evaluation_cases,
    "scaling": scaling_cases,
}
