"""crash_test.md: what was killed when, and what became of it."""

from collections.abc import Sequence
from pathlib import Path

from experiments.crash_test.kills import CrashTest
from experiments.reports import markdown_table


def write_report(path: Path, iterations: int, tests: Sequence[CrashTest]) -> Path:
    """Write the report on trainings of so many iterations; return its path."""
    blocks = [
        "# Killed and resumed",
        f"Trainings of {iterations} iterations were killed with all their processes by SIGKILL, or "
        "met another fault, and were resumed. They are compared with an unbroken one, bit by bit: "
        "weights, optimizer, scheduler, normaliser, seeds, metrics line by line, and detections.",
        "\n".join(f"- {test.summary()}" for test in tests),
        "## Differences",
        "\n".join(f"- {line}" for test in tests for line in test.differences) or "None.",
    ]
    for test in tests:
        blocks += [
            f"## Kills with {test.processes} process(es) and {test.workers} worker(s)",
            _kills(test),
        ]
    path.write_text("\n\n".join(blocks) + "\n")
    return path


def _kills(test: CrashTest) -> str:
    rows = [
        [i, kill.run, kill.fault, f"{kill.seconds:.3f}", kill.activity, kill.resumed_from]
        for i, kill in enumerate(test.kills, 1)
    ]
    headers = ["number", "run", "fault", "seconds after the start", "during", "started from"]
    return markdown_table(rows, headers)
