"""The comparison is fair: the implementations of a case do the same work."""

import contextlib
from dataclasses import replace

import pytest
import torch

from experiments.benchmark.cases.evaluation import evaluation_cases
from experiments.benchmark.cases.labelling import labelling_cases
from experiments.benchmark.cases.losses import loss_cases
from experiments.benchmark.cases.postprocessing import postprocessing_cases
from experiments.benchmark.cases.whole_model import inference_cases, training_cases
from experiments.benchmark.random_inputs import random_batch
from experiments.benchmark.retinanets import detectron2_retinanet
from experiments.benchmark.setting import QUICK, Setting
from focal_retina.errors import UserError

pytestmark = pytest.mark.slow

PARTS = (loss_cases, labelling_cases, postprocessing_cases, evaluation_cases)


def assert_agreement(case, **tolerance):
    """Compare the results of all implementations but those with a note why theirs differs."""
    results = {n: x.result(x.run()) for n, x in case.implementations.items() if not x.note}
    assert len(results) > 1
    for result in results.values():
        torch.testing.assert_close(result, results[case.baseline], equal_nan=True, **tolerance)


@pytest.mark.parametrize(
    ("cases", "changes", "tolerance"),
    [
        *[(part, {}, {"rtol": 1e-4, "atol": 1e-5}) for part in PARTS],
        *[(loss_cases, {"num_classes": k}, {"rtol": 1e-4, "atol": 1e-5}) for k in (1, 1203)],
        (labelling_cases, {"num_objects": (1, 500)}, {"rtol": 0, "atol": 0}),
    ],
)
def test_implementations_of_every_part_agree(cases, changes, tolerance):
    for case in cases(replace(QUICK, **changes)):
        assert_agreement(case, **tolerance)


def test_torchvision_postprocesses_the_same_candidates():
    for case in postprocessing_cases(QUICK):
        ours = case.implementations["focal_retina"].run()
        theirs = case.implementations["torchvision"].run()
        torch.testing.assert_close(ours.scores[0], theirs["scores"][0])
        assert 0 < len(theirs["scores"]) <= 100


@pytest.fixture(scope="module")
def training_results():
    return {name: x.run() for name, x in next(training_cases(QUICK)).implementations.items()}


def test_training_steps_of_detectron2_and_ours_agree(training_results):
    theirs, ours = (training_results[f"{name} fp32"] for name in ("Detectron2", "focal_retina"))
    torch.testing.assert_close(ours["losses"], theirs["losses"], rtol=1e-5, atol=0)
    assert ours["gradients"].keys() == theirs["gradients"].keys()
    # Rounding turns some ReLUs on or off, which few gradients show much, and most hardly.
    errors = [
        (gradient - theirs["gradients"][name]).norm() / theirs["gradients"][name].norm()
        for name, gradient in ours["gradients"].items()
    ]
    assert torch.stack(errors).median() < 1e-3


@pytest.mark.parametrize("name", ["Detectron2", "focal_retina"])
def test_a_training_step_in_bf16_has_the_losses_of_fp32_rounded(training_results, name):
    fp32, bf16 = (training_results[f"{name} {p}"]["losses"] for p in ("fp32", "bf16"))
    torch.testing.assert_close(bf16, fp32, rtol=0.02, atol=0)


def test_every_model_trains_as_many_parameters(training_results):
    counts = {name: len(result["gradients"]) for name, result in training_results.items()}
    assert len(set(counts.values())) == 1, counts


@pytest.fixture(scope="module")
def inference_case():
    with contextlib.closing(inference_cases(QUICK)) as cases:
        yield next(cases)


def test_inference_of_detectron2_and_ours_agrees(inference_case):
    assert_agreement(inference_case, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_calibrated_models_features_are_small_and_few_of_its_scores_pass_the_threshold():
    model = detectron2_retinanet(QUICK).eval()
    features = model.backbone(model.preprocess_image(random_batch(QUICK, 1)).tensor)
    assert max(x.std() for x in features.values()) < 10
    logits, _ = model.head([features[f] for f in model.head_in_features])
    passing = (torch.cat([x.flatten() for x in logits]).sigmoid() > 0.05).float().mean()
    assert 0 < passing < 0.01


def test_the_limit_of_inference_is_the_time_of_all_convolutions(inference_case):
    # The two subnets alone have eight like the measured one on P3.
    assert inference_case.implementations["limit: convolution rate fp32"].calls > 8


def test_an_image_as_small_as_the_coarsest_stride_is_refused():
    with pytest.raises(UserError, match="give sides above 128"):
        Setting(height=128)
