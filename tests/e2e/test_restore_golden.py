"""Experiments that earlier versions wrote go on with this one; see ``tests/golden/write.py``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.checkpoint import verify
from milepost.checkpoint.manifest import checkpoint_name

HOME = Path(__file__).parent.parent / "golden"
RECORDED = sorted(HOME.glob("experiments-v*/*"))

sys.path.insert(0, str(HOME))

import golden_run  # noqa: E402


@pytest.fixture(params=RECORDED, ids=lambda path: f"{path.parent.name}-{path.name}")
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, dict[str, Any]]:
    """The case of a golden experiment, a copy of it, and its trials as they were recorded."""
    copy = shutil.copytree(request.param / "experiment", tmp_path / "exp", symlinks=True)
    expected = json.loads((request.param / "expected.json").read_text())
    return request.param.name, copy, expected["trials"]


def test_all_cases_are_recorded() -> None:
    """Every case has an experiment of the first version."""
    assert {path.name for path in RECORDED} >= golden_run.CASES.keys()


def test_reading(golden: tuple[str, Path, dict[str, Any]]) -> None:
    """Statuses, rows and checkpoints are those that the writing version saw."""
    _, path, expected = golden
    trials = tune.ExperimentAnalysis(path).trials
    assert {trial.trial_id: trial.status for trial in trials} == {
        trial: each["status"] for trial, each in expected.items()
    }
    for trial in trials:
        each = expected[trial.trial_id]
        assert (trial.last_result or {}).get("training_iteration", 0) == each["rows"]
        assert whole_checkpoints(path / each["directory"]) == each["checkpoints"]


def test_going_on(golden: tuple[str, Path, dict[str, Any]], place: Any) -> None:
    """What was finished stays as it is, byte by byte; everything else comes to its end."""
    case, path, expected = golden
    ended = {e["directory"] for e in expected.values() if e["status"] in ("TERMINATED", "ERROR")}
    before = {name: files(path / name) for name in ended}
    place.env["PYTHONPATH"] = f"{HOME}:{place.env.get('PYTHONPATH', '')}"
    out = place.run(str(HOME / "golden_run.py"), "go on", case, str(path))
    (told,) = [line for line in out.splitlines() if line.startswith("TOLD ")]
    assert json.loads(told.removeprefix("TOLD ")) == [
        [x, x != 1, x * 10 + (1 if x == 1 else golden_run.EPOCHS)] for x in golden_run.XS[case]
    ]
    for name in ended:
        after = files(path / name)
        assert after.items() <= before[name].items()
        # The recorded run had decided to delete some checkpoints, and was killed before it did.
        assert all(gone.startswith("checkpoint_") for gone in before[name].keys() - after.keys())
    analysis = tune.ExperimentAnalysis(path)
    recorded = sorted(expected, key=lambda trial: expected[trial]["order"])
    assert [t.trial_id for t in analysis.trials][: len(expected)] == recorded
    for trial in analysis.trials:
        last = 1 if trial.config["x"] == 1 else golden_run.EPOCHS
        rows = Path(trial.path, "result.json").read_text().splitlines()
        assert [json.loads(row)["epoch"] for row in rows] == list(range(1, last + 1))
        assert list(whole_checkpoints(Path(trial.path)).values())[-1] == last


def whole_checkpoints(trial: Path) -> dict[str, int]:
    """Index to epoch of a trial's checkpoints, whose contents are checked."""
    found = {}
    for index, manifest in verify.committed(str(trial)):
        directory = trial / checkpoint_name(index)
        assert verify.check(str(directory), digests=True) == []
        assert json.loads((directory / "state.json").read_text())["epoch"] == manifest.iteration
        found[str(index)] = manifest.iteration
    return found


def files(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }
