"""A process that has ended."""

import subprocess
import sys


def gone_process() -> int:
    """Return the id of a process that ran and has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
