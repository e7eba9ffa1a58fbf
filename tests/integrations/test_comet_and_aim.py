"""Comet, writing archives, and Aim, in a repository of the test's own."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tracked_runs import Cut, train

from milepost import tune
from milepost.errors import TuneError
from milepost.tune.logger.aim import AimLoggerCallback
from milepost.tune.logger.comet import CometLoggerCallback

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]


# --- Comet --------------------------------------------------------------------------------------


@pytest.fixture
def comet(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments that keep Comet offline."""
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "1")
    pytest.importorskip("comet_ml")
    return {"online": False, "offline_directory": str(home / "comet"), "project_name": "digits"}


def archives(home: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What each archive says of its experiment, and its messages; oldest first."""
    found = []
    paths = sorted((home / "comet").glob("*.zip"), key=lambda path: path.stat().st_mtime_ns)
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("experiment.json"))
            messages = [json.loads(m) for m in archive.read("messages.json").splitlines()]
        found.append((about, messages))
    return found


def metrics(messages: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric."""
    payloads = [m["payload"] for m in messages if m["type"] == "metric_msg"]
    found = [p for p in payloads if p["metric"]["metricName"] == name]
    return [(int(p["metric"]["step"]), float(p["metric"]["metricValue"])) for p in found]


def test_comet(fit: Any, comet: dict[str, Any], home: Path) -> None:
    """One experiment per trial with its parameters, metrics and checkpoints."""
    callback = CometLoggerCallback(tags=["a"], save_checkpoints=True, **comet)
    grid = fit([callback], {"lr": tune.grid_search([1.0, 2.0]), "model": {"depth": 3}})
    assert not grid.errors
    found = archives(home)
    assert len({about["offline_id"] for about, _ in found}) == 2
    for about, messages in found:
        assert about["project_name"] == "digits"
        text = json.dumps(messages)
        assert [step for step, _ in metrics(messages, "loss")] == [1, 2, 3]
        assert metrics(messages, "valid/auc")[0] == (1, 0.1)
        assert not metrics(messages, "config/lr")
        assert '"model|depth"' in text or "depth" in text
        assert all(f"_checkpoint_00000{i}" in text for i in range(3))


def test_comet_goes_on(
    fit: Any, comet: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored trial adds to its experiment."""
    callback = CometLoggerCallback(api_key="not for the disk", **comet)
    assert b"not for" not in pickle.dumps(callback)
    with pytest.raises(TuneError, match="RuntimeError: cut"):
        fit([callback, Cut(3)], {"lr": 1.0, "steps": 4})
    monkeypatch.setattr(Cut, "on_trial_result", lambda self, **info: None)
    tune.Tuner.restore(str(home / "results" / "exp"), train).fit()
    (first, before), (second, after) = archives(home)
    assert first["offline_id"] == second["offline_id"]
    steps = [step for messages in (before, after) for step, _ in metrics(messages, "loss")]
    assert sorted(set(steps)) == [1, 2, 3, 4]


def test_comet_arguments(comet: dict[str, Any]) -> None:
    """One that Comet does not know is an error before anything runs."""
    with pytest.raises(TypeError, match="Did you mean 'workspace'"):
        CometLoggerCallback(workspaze="a", **comet).setup()


# --- Aim ----------------------------------------------------------------------------------------


def runs_in(repo: Path) -> list[Any]:
    import aim

    hashes = aim.Repo(str(repo)).list_all_runs()
    # Read-only, they would be empty until Aim's indexer, a part of its server, has seen them.
    runs = [
        aim.Run(one, repo=str(repo), capture_terminal_logs=False, system_tracking_interval=None)
        for one in hashes
    ]
    return sorted(runs, key=lambda run: run["trial_id"])


def values(run: Any, name: str) -> list[float]:
    from aim.storage.context import Context

    metric = run.get_metric(name, Context({}))
    return [] if metric is None else list(metric.values.values_list())


def test_aim(fit: Any, home: Path) -> None:
    """One run per trial with what was searched and its metrics, in the experiment's directory."""
    pytest.importorskip("aim")
    grid = fit([AimLoggerCallback()], {"lr": tune.grid_search([1.0, 2.0]), "fixed": 1})
    assert not grid.errors
    runs = runs_in(home / "results" / "exp")
    assert [run["trial_id"] for run in runs] == sorted(r.metrics["trial_id"] for r in grid)
    for run in runs:
        assert run.experiment == "exp"
        assert run.name == f"train_{run['trial_id']}"
        assert run["hparams"] in ({"lr": 1.0}, {"lr": 2.0})
        lr = run["hparams"]["lr"]
        assert sorted(values(run, "ray/tune/loss")) == [lr / 3, lr / 2, lr]
        assert sorted(values(run, "ray/tune/valid/auc")) == [0.1, 0.2, 0.3]
        assert values(run, "ray/tune/pid") == []
        assert run["trial_status"] == "finished"


def test_aim_goes_on(fit: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored trial goes on in its run; only the metrics that were named are logged."""
    pytest.importorskip("aim")
    callback = AimLoggerCallback(str(home / "aim"), "digits", metrics=["loss"])
    (home / "aim").mkdir()
    with pytest.raises(TuneError, match="RuntimeError: cut"):
        fit([callback, Cut(3)], {"lr": 1.0, "steps": 4})
    monkeypatch.setattr(Cut, "on_trial_result", lambda self, **info: None)
    tune.Tuner.restore(str(home / "results" / "exp"), train).fit()
    (run,) = runs_in(home / "aim")
    assert run.experiment == "digits"
    assert run["trial_status"] == "finished"
    assert set(values(run, "ray/tune/loss")) == {1.0, 0.5, 1 / 3, 0.25}
    assert values(run, "ray/tune/valid/auc") == []


def test_aim_needs_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty choice is an error."""
    monkeypatch.setattr("milepost.integrations.aim.require", lambda *names: None)
    with pytest.raises(ValueError, match="at least one metric"):
        AimLoggerCallback(metrics=[])
