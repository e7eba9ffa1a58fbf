"""``tune.run(resume=...)`` goes on with what is there, and starts afresh where nothing is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.errors import ExperimentExistsError

pytestmark = pytest.mark.chaos  # others of their kind run always


def train(config: dict[str, Any]) -> None:
    """Report three times; fail at ``fails_at`` while there is a file that says so."""
    for step in range(1, 4):
        if step == config.get("fails_at") and Path(config["marker"]).exists():
            raise ValueError("broken")
        tune.report({"step": step, "x": config["x"]})


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / "broken"
    path.touch()
    return path


def run(tmp_path: Path, trainable: Any = train, **options: Any) -> tune.ExperimentAnalysis:
    return tune.run(
        trainable,
        **{
            "name": "exp",
            "storage_path": tmp_path / "store",
            "verbose": 0,
            "raise_on_failed_trial": False,
            "max_concurrent_trials": 1,
            **options,
        },
    )


def statuses(analysis: tune.ExperimentAnalysis) -> list[str]:
    return [trial.status for trial in analysis.trials]


@pytest.mark.parametrize("resume", [True, "AUTO", "AUTO+ERRORED"])
def test_nothing_to_resume(tmp_path: Path, caplog: pytest.LogCaptureFixture, resume: Any) -> None:
    """The run starts afresh, and the log says why."""
    with caplog.at_level(logging.INFO, "milepost.tune"):
        analysis = run(tmp_path, config={"x": 1}, resume=resume)
    assert statuses(analysis) == ["TERMINATED"]
    assert f"nothing to resume: there is no directory {tmp_path}" in caplog.text


def test_without_resume_the_name_is_taken(tmp_path: Path) -> None:
    """The error names resume as well."""
    run(tmp_path, config={"x": 1})
    with pytest.raises(ExperimentExistsError, match="resume=True"):
        run(tmp_path, config={"x": 1})


def test_a_script_that_is_run_again(tmp_path: Path, marker: Path) -> None:
    """The same call goes on: finished trials stay, failed ones as the option says."""
    space = {"x": tune.grid_search([1, 2]), "fails_at": 2, "marker": str(marker)}
    first = run(tmp_path, config=space, resume="AUTO+ERRORED")
    assert statuses(first) == ["ERROR", "ERROR"]
    marker.unlink()
    assert statuses(run(tmp_path, config=space, resume="AUTO")) == ["ERROR", "ERROR"]
    second = run(tmp_path, config=space, resume="AUTO+ERRORED")
    assert statuses(second) == ["TERMINATED", "TERMINATED"]
    assert [t.trial_id for t in second.trials] == [t.trial_id for t in first.trials]
    assert len(second.get_all_configs()) == 2


@pytest.mark.chaos
def test_failed_trials_start_again(tmp_path: Path, marker: Path) -> None:
    """RESTART_ERRORED makes new ones."""
    space = {"x": 1, "fails_at": 2, "marker": str(marker)}
    first = run(tmp_path, config=space)
    marker.unlink()
    second = run(tmp_path, config=space, resume="AUTO+RESTART_ERRORED")
    assert statuses(second) == ["TERMINATED"]
    assert second.trials[0].trial_id != first.trials[0].trial_id


def test_what_is_left_out_is_as_recorded(tmp_path: Path) -> None:
    """A call without the space and the number of samples goes on with both."""
    first = run(tmp_path, config={"x": tune.uniform(0, 1)}, num_samples=2)
    again = run(tmp_path, resume=True)
    assert again.get_all_configs() == first.get_all_configs()
    more = run(tmp_path, resume=True, num_samples=3)
    assert len(more.trials) == 3
    assert 0 < more.trials[2].config["x"] < 1


def test_a_resume_config(tmp_path: Path, marker: Path) -> None:
    """It says the same by itself."""
    space = {"x": 1, "fails_at": 2, "marker": str(marker)}
    run(tmp_path, config=space)
    marker.unlink()
    wanted = tune.ResumeConfig(errored=tune.ResumeConfig.ResumeType.RESUME)
    assert statuses(run(tmp_path, config=space, resume_config=wanted)) == ["TERMINATED"]


def test_experiments_of_their_own(tmp_path: Path, marker: Path) -> None:
    """An Experiment may have the name of an existing one; run_experiments resumes all."""
    store = str(tmp_path / "store")
    space = {"x": 1, "fails_at": 2, "marker": str(marker)}

    def experiment() -> tune.Experiment:
        return tune.Experiment("exp", train, config=space, storage_path=store)

    run(tmp_path, experiment(), name=None, storage_path=None)
    with pytest.raises(ExperimentExistsError):
        run(tmp_path, experiment(), name=None, storage_path=None)
    marker.unlink()
    spec = {"run": train, "config": space, "storage_path": store}
    trials = tune.run_experiments(
        {"exp": spec, "other": {**spec, "config": {"x": 2}}}, resume="AUTO+ERRORED", verbose=0
    )
    assert [(t.status, t.config["x"]) for t in trials] == [("TERMINATED", 1), ("TERMINATED", 2)]


def test_a_registered_name_goes_on(tmp_path: Path) -> None:
    """The experiment has the registered name, whatever the function is called."""
    tune.register_trainable("registered", train)
    first = run(tmp_path, "registered", config={"x": 1})
    assert first.trials[0].trial_id in run(tmp_path, "registered", resume=True).get_all_configs()
    with pytest.raises(ValueError, match="'registered', and 'train' was given"):
        run(tmp_path, train, resume=True)
