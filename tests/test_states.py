"""A state of a checkpoint is taken only where it is of the kind of our own."""

import pytest
import torch

from focal_retina.states import StateError, conform, state_errors

OWN = {
    "place": 0,
    "last": -1,
    "best": None,
    "scale": 2.0,
    "name": "a",
    "is_on": True,
    "betas": (0.9, 0.99),
    "names": [],
    "order": torch.zeros(3, dtype=torch.int64),
    "facts": {"images": 4},
}


def test_a_state_of_our_own_kind_is_kept():
    saved = {**OWN, "last": -1, "best": 0.5, "scale": 3, "names": ["x"], "facts": {"images": 9}}
    assert conform(OWN, saved) == saved


def test_entries_that_ours_lacks_are_dropped_and_lacking_ones_stay_away():
    assert conform(OWN, {"place": 1, "get_lr": 5}) == {"place": 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("place", x) for x in ("1", 1.0, None, -1, 2**63, [1])],
        *[("best", x) for x in ("0.5", [0.5], {})],
        *[("scale", x) for x in ("2", None)],
        *[("order", x) for x in (torch.zeros(4, dtype=torch.int64), torch.zeros(3), [0, 0, 0])],
        *[("betas", x) for x in ((0.9, "x"), 0.9, [0.9, 0.99])],
        *[("is_on", 2), ("name", 3), ("names", "xy"), ("last", -2), ("facts", [4])],
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_refused_by_its_name(key, value):
    with pytest.raises(ValueError, match=f"its {key} is "):
        conform(OWN, {**OWN, key: value})


def test_nested_values_are_checked_too():
    with pytest.raises(ValueError, match="its images is 'many'"):
        conform(OWN, {**OWN, "facts": {"images": "many"}})


def test_any_error_names_the_part_once():
    with pytest.raises(StateError, match="^the state of the clock cannot be used: KeyError: 'x'$"):
        with state_errors("the run"), state_errors("the clock"):
            _ = {}["x"]
