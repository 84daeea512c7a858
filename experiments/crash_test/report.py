"""torture.md: what was killed when, and what became of it."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from experiments.crash_test.siege import Siege


def write_report(path: Path, args: Namespace, sieges: Sequence[Siege]) -> Path:
    """Write the report; return its path."""
    blocks = [
        "# Killed and resumed",
        f"Trainings of {args.iterations} iterations, killed with all their processes by SIGKILL "
        "and resumed. Compared with an unbroken one, bit by bit: weights, optimizer, scheduler, "
        "normaliser, seeds, metrics and detections.",
        _overview(sieges),
        "## Differences",
        "\n".join(f"- {line}" for siege in sieges for line in siege.differences) or "None.",
        *(block for siege in sieges for block in _kills(siege)),
    ]
    path.write_text("\n\n".join(blocks) + "\n")
    return path


def _overview(sieges: Sequence[Siege]) -> str:
    activities = sorted({kill.activity for siege in sieges for kill in siege.kills})
    rows = []
    for siege in sieges:
        counts = Counter(kill.activity for kill in siege.kills)
        row = [siege.processes, siege.workers, siege.runs, len(siege.kills)]
        rows.append([*row, *(counts[a] for a in activities), len(siege.differences)])
    headers = ["processes", "workers", "runs", "kills", *activities, "differences"]
    return tabulate(rows, headers, tablefmt="pipe")


def _kills(siege: Siege) -> list[str]:
    rows = [
        [i, kill.run, f"{kill.seconds:.3f}", kill.activity, kill.resumed_from]
        for i, kill in enumerate(siege.kills, 1)
    ]
    headers = ["kill", "run", "seconds after the start", "while", "which had begun from"]
    title = f"## Kills with {siege.processes} process(es) and {siege.workers} worker(s)"
    return [title, tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)]
