"""The types that a user sees, without any plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "typing_examples" / "variables.py"


def test_mypy_sees_handles_on_classes_and_values_on_instances() -> None:
    pytest.importorskip("mypy")
    # In the project's own cache, which `make check` has filled: seconds instead of a minute.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(EXAMPLE)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE.parents[2], timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
