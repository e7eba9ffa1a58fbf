"""The programs in the guide run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "train-frameworks.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.chaos
@pytest.mark.timeout(150)
@pytest.mark.parametrize(("number", "library", "says"), [(0, "xgboost", "10"), (1, "torch", "Lin")])
def test_programs(number: int, library: str, says: str, tmp_path: Path) -> None:
    """Each is a script of its own, and prints at its end what it says."""
    pytest.importorskip(library)
    script = tmp_path / "script.py"
    script.write_text(PROGRAMS[number])
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=140,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith(says)


def test_all_are_tested() -> None:
    """There is no other program in the guide."""
    assert len(PROGRAMS) == 2
