"""What ``docs/schedulers.md`` shows of populations works as it is written."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "schedulers.md"


def fence(containing: str) -> str:
    """The one piece of Python in the guide with this text."""
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (code,) = [code for code in found if containing in code]
    return str(code)


@pytest.mark.timeout(120)
def test_populations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The population is trained, the lineage is shown, and one line of descent can be replayed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    random.seed(1)
    namespace: dict[str, Any] = {}
    exec(fence("PopulationBasedTraining("), namespace)
    results = namespace["results"]
    assert [r.metrics["training_iteration"] for r in results] == [20] * 4
    best = results.get_best_result()
    shown = capsys.readouterr().out
    assert best.lineage()[-1].trial_id in shown
    policies = sorted(Path(results.experiment_path).glob("pbt_policy_*.txt"))
    assert policies
    trial_id = policies[0].stem.removeprefix("pbt_policy_")
    namespace["trial_id"] = trial_id
    exec(fence("PopulationBasedTrainingReplay"), namespace)
    assert namespace["scheduler"]._changes
