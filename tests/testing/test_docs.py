"""The examples of ``docs/testing.md`` are test modules, and pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.timeout(180)
@pytest.mark.chaos
def test_the_examples_pass(tmp_path: Path) -> None:
    """Each fence, saved as a module of its own, is collected and passes."""
    assert len(EXAMPLES) >= 5
    for number, code in enumerate(EXAMPLES):
        (tmp_path / f"test_example_{number}.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= sum(code.count("\ndef test_") for code in EXAMPLES)


def test_the_page_names_everything() -> None:
    """All public names are on the page, and it promises none that is not there."""
    from milepost import testing

    text = PAGE.read_text()
    for name in testing.__all__:
        assert f"`{name}" in text or f" `{name}`" in text or f"{name}`" in text, name
    imported = re.findall(r"from milepost\.testing import (.+)", text)
    assert {name for line in imported for name in line.split(", ")} <= set(testing.__all__)


def test_the_error_on_the_page_is_the_one_that_comes(tmp_path: Path) -> None:
    """The text that the page shows for a forgotten momentum is what that trainable causes."""
    code = EXAMPLES[0].replace(
        'start, weight, momentum = state["step"], state["weight"], state["momentum"]',
        'start, weight = state["step"], state["weight"]',
    )
    code = code.split("def test_")[0] + 'assert_resumable(train, {"lr": 0.1}, iterations=3)\n'
    assert code.count("momentum = state") == 0
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (shown,) = re.findall(r"```text\n(AssertionError.*?)```", PAGE.read_text(), re.DOTALL)
    said = done.stderr[done.stderr.index("AssertionError: ") :]
    assert _words(shown) == _words(said)


def _words(text: str) -> list[str]:
    """Words, with numbers cut to four digits."""
    return re.sub(r"(\.\d{4})\d+", r"\1", text).split()
