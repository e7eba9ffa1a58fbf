"""The loop of the guide runs, also when another number of workers goes on with it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "train-torch.md"

Run = Callable[..., list[Any]]


def looped(code: str, epochs: int, checkpoint: str | None, root: str) -> list[dict[str, Any]]:
    """Run the guide's function in a worker, with a ``report`` that keeps what it is given."""
    from milepost import train
    from milepost.checkpoint.handle import Checkpoint

    reports: list[dict[str, Any]] = []

    def report(metrics: dict[str, Any], checkpoint: Checkpoint) -> None:
        reports.append(metrics)
        shutil.copytree(checkpoint.path, Path(root, str(len(reports))), dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "report", report)
        found = Checkpoint.from_directory(checkpoint) if checkpoint else None
        patch.setattr(train, "get_checkpoint", lambda: found)
        patch.setattr(tempfile, "tempdir", None)
        names: dict[str, Any] = {}
        exec(compile(code, str(GUIDE), "exec"), names)
        names["train_fn"]({"lr": 0.01, "epochs": epochs})
    return reports


@pytest.mark.chaos
def test_the_loop(workers: Run, tmp_path: Path) -> None:
    """Two workers train two epochs, three go on with the third."""
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    first, second = tmp_path / "first", tmp_path / "second"
    found = workers(2, looped, code, 2, None, str(first))
    assert [len(reports) for reports in found] == [2, 2]
    found = workers(3, looped, code, 3, str(first / "2"), str(second))
    assert [len(reports) for reports in found] == [1, 1, 1]
    assert len(list((second / "1").iterdir())) == 4
