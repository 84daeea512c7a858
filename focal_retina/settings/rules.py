"""What a setting may be: as a test of a value, and in words."""

import os
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

from focal_retina.errors import UserError, shown

# Sizes and indices above it fail somewhere inside PyTorch.
_LARGEST = 2**31 - 1
_LONGEST_PATH = 4096  # bytes, on Linux


class Rule(NamedTuple):
    """What a value may be."""

    words: str  # which go on "it must be"
    allows: Callable[[Any], bool]

    def check(self, name: str, value: Any) -> None:
        """Raise a UserError that names the setting, unless its value is allowed."""
        if not self.allows(value):
            raise UserError(f"{name} is {shown(value)}; it must be {self.words}")


def number(
    least: float = -inf, most: float = inf, *, above: float = -inf, below: float = inf
) -> Rule:
    """Allow finite numbers within the bounds."""
    bounds = {"of at least": least, "above": above, "below": below, "of at most": most}
    words = [f"{word} {bound:.10g}" for word, bound in bounds.items() if -inf < bound < inf]

    def allows(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Comparisons, since a whole number may be too large to become a float.
        return -inf < value < inf and least <= value <= most and above < value < below

    return Rule(" ".join(["a number", " and ".join(words)]).strip(), allows)


def whole(least: int, most: int = _LARGEST) -> Rule:
    """Allow whole numbers within the bounds."""
    words, allows = number(least, most)
    return Rule(
        words.replace("a number", "a whole number"),
        lambda value: isinstance(value, int) and allows(value),
    )


def one_of(*choices: str | float) -> Rule:
    """Allow a few strings or numbers."""
    kinds = tuple(map(type, choices))
    words = f"one of {', '.join(map(repr, choices))}"
    return Rule(words, lambda value: type(value) in kinds and value in choices)


def each(rule: Rule, *, least: int = 0, length: int | None = None) -> Rule:
    """Allow lists of values that a rule allows."""
    lengths = (least, inf) if length is None else (length, length)
    count = f"{length} values" if length else f"at least {least} values" if least else "values"

    def allows(value: Any) -> bool:
        is_long_enough = _is_list(value) and lengths[0] <= len(value) <= lengths[1]
        return is_long_enough and all(map(rule.allows, value))

    return Rule(f"a list of {count}, each {rule.words}", allows)


def row(*rules: Rule) -> Rule:
    """Allow lists of as many values, each as its rule says."""
    words = f"a list of {', '.join(rule.words for rule in rules)}"

    def allows(value: Any) -> bool:
        if not _is_list(value) or len(value) != len(rules):
            return False
        return all(rule.allows(x) for rule, x in zip(rules, value, strict=True))

    return Rule(words, allows)


def ascending(rule: Rule) -> Rule:
    """Allow a rule's lists if each value is above the one before."""
    return Rule(
        f"{rule.words}, in ascending order",
        lambda value: rule.allows(value) and list(value) == sorted(set(value)),
    )


def either(*rules: Rule) -> Rule:
    """Allow what any of the rules does."""
    words = ", or ".join(rule.words for rule in rules)
    return Rule(words, lambda value: any(rule.allows(value) for rule in rules))


def optional(rule: Rule) -> Rule:
    """Allow None, and what a rule does."""
    return either(Rule("None", lambda value: value is None), rule)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or not value or "://" in value or "\0" in value:
        return False
    try:
        return len(os.fsencode(value)) < _LONGEST_PATH
    except UnicodeEncodeError:
        return False


text = Rule("text", lambda value: isinstance(value, str))
folder = Rule("the path of a folder on this machine", _is_path)
flag = Rule("True or False", lambda value: isinstance(value, bool))
function = Rule("a function", callable)
anything = Rule("anything", lambda value: True)
positive = number(above=0, most=1e6)
