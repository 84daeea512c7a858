"""Cases: some work, and the implementations that do it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Implementation:
    """One way to do the work of a case.

    Args:
        run: does the work once; what it returns counts as its memory.
        result: turns what ``run`` returns into the result that all implementations agree on.
        note: why its result differs from the baseline's; empty if it does not.
        calls: how many runs make up the case's work (1 unless this is a limit).
    """

    run: Callable[[], Any]
    result: Callable[[Any], Any] = lambda returned: returned
    note: str = ""
    calls: float = 1.0


@dataclass(frozen=True)
class Case:
    """Some work, and its implementations by name.

    Args:
        group: its name for ``--only``.
        name: unique within the group, except in a series.
        baseline: the implementation that the others are compared with.
        axis, value: in a series of cases of the same name, the size that differs; else "" and 0.
    """

    group: str
    name: str
    baseline: str
    implementations: dict[str, Implementation]
    axis: str = ""
    value: int = 0

    @property
    def title(self) -> str:
        """Group and name, and in a series the value, of no other case."""
        return f"{self.group}, {self.name}" + (f", {self.value}" if self.axis else "")
