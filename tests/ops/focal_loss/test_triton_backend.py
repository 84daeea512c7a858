import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
def test_the_kernels_pass_the_tests_of_the_fused_backends_in_tritons_interpreter():
    """In a process of its own: Triton reads the variable when a kernel is defined."""
    folder = Path(__file__).parent
    names = "test_functional.py", "test_behaviour.py"
    command = [sys.executable, "-m", "pytest", "-q", "-k", "triton", *(folder / n for n in names)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        command, cwd=folder.parents[2], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
