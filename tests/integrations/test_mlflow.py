"""MLflow itself, with its data in a SQLite file."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")

from tracked_runs import Cut, train

from milepost import tune
from milepost.air.integrations.mlflow import MLflowLoggerCallback, setup_mlflow
from milepost.errors import TuneError

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of MLflow's own imports
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables; to make them takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(home: Path, empty_store: Path) -> str:
    """A store of the test's own."""
    (home / "mlflow.db").write_bytes(empty_store.read_bytes())
    return f"sqlite:///{home}/mlflow.db"


def runs_in(uri: str, experiment: str = "digits") -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return sorted(runs, key=lambda run: run.info.run_name)


def history(uri: str, run: Any, key: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    metrics = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in metrics]


def test_trials_are_runs(fit: Any, uri: str) -> None:
    """One run per trial with its config, its nested metrics, tags and how it ended."""
    callback = MLflowLoggerCallback(uri, experiment_name="digits", tags={"team": "a"})
    grid = fit(
        [callback],
        {"lr": tune.grid_search([1.0, 2.0]), "model": {"depth": 3}, "fails_at": 2, "once": False},
    )
    assert grid.num_errors == 2
    grid = [result.metrics["trial_id"] for result in grid]
    first, second = runs_in(uri)
    assert [r.info.run_name for r in (first, second)] == [f"train_{i}" for i in sorted(grid)]
    assert {r.info.status for r in (first, second)} == {"FAILED"}
    assert first.data.params["lr"] == "1.0"
    assert first.data.params["model/depth"] == "3"
    assert first.data.tags["team"] == "a"
    assert first.data.tags["trial_name"] == first.info.run_name
    assert history(uri, first, "loss") == [(1, 1.0)]
    assert history(uri, second, "valid/auc") == [(1, 0.1)]
    assert not any(key.startswith("config") or key == "note" for key in first.data.metrics)


def test_a_retry_goes_on_in_its_run(fit: Any, uri: str) -> None:
    """A trial that failed and was tried again is one run that finished."""
    callback = MLflowLoggerCallback(uri, experiment_name="digits")
    fit([callback], {"lr": 1.0, "fails_at": 2}, failure_config=tune.FailureConfig(max_failures=1))
    (run,) = runs_in(uri)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(uri, run, "loss")] == [1, 2, 3]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_restored_trial_goes_on_in_its_run(
    forgets: bool, fit: Any, uri: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by the id in the state, and by its tag when the state was lost."""
    token = "not for the disk"
    callback = MLflowLoggerCallback(uri, experiment_name="digits", tracking_token=token)
    with pytest.raises(TuneError, match="RuntimeError: cut"):
        fit([callback, Cut(3)], {"lr": 1.0, "steps": 4})
    (run,) = runs_in(uri)
    assert run.info.status == "KILLED"
    assert all(token.encode() not in f.read_bytes() for f in home.rglob("*") if f.is_file())
    if forgets:
        monkeypatch.setattr(MLflowLoggerCallback, "set_state", lambda self, state: None)
    monkeypatch.setattr(Cut, "on_trial_result", lambda self, **info: None)
    grid = tune.Tuner.restore(str(home / "results" / "exp"), train).fit()
    assert grid[0].metrics["training_iteration"] == 4
    (run,) = runs_in(uri)
    assert run.info.status == "FINISHED"
    steps = [step for step, _ in history(uri, run, "loss")]
    assert sorted(set(steps)) == [1, 2, 3, 4]


def test_artifacts_and_params_at_the_end(fit: Any, uri: str, home: Path) -> None:
    """The trial's directory is uploaded with all results and checkpoints, without our own files."""
    callback = MLflowLoggerCallback(
        uri, experiment_name="digits", save_artifact=True, log_params_on_trial_end=True
    )
    fit([callback], {"lr": 1.0})
    (run,) = runs_in(uri)
    assert run.data.params["lr"] == "1.0"
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {"params.json", "checkpoint_000002/state.json"} <= names
    assert len((root / "result.json").read_text().splitlines()) == 3
    assert not any(name.startswith(".milepost") for name in names)


def test_a_changed_config(fit: Any, uri: str, home: Path) -> None:
    """Parameters are final in MLflow; what changed is a tag."""

    class Change(tune.Callback):
        def on_trial_recover(self, trial: Any, **info: Any) -> None:
            trial.config = {**trial.config, "lr": 5.0}

    fit(
        [MLflowLoggerCallback(uri, experiment_name="digits"), Change()],
        {"lr": 1.0, "fails_at": 2},
        failure_config=tune.FailureConfig(max_failures=1),
    )
    (run,) = runs_in(uri)
    assert run.data.params["lr"] == "1.0"
    assert run.data.tags["param.lr"] == "5.0"


def test_a_tracker_that_is_down(
    fit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The experiment ends well; one warning says why, one what is missing."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    callback = MLflowLoggerCallback("http://127.0.0.1:9", experiment_name="digits")
    with caplog.at_level("WARNING", logger="milepost.integrations"):
        grid = fit([callback], {"lr": tune.grid_search([1.0, 2.0])})
    assert grid.num_terminated == 2
    said = [r.getMessage() for r in caplog.records if r.name == "milepost.integrations"]
    assert sum("could not begin the run of" in text for text in said) <= 2
    assert sum("could not log results" in text for text in said) <= 1
    assert "lacks a part of this run" in said[-1]


def test_which_experiment(fit: Any, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name comes from the argument or the environment; without one nothing is run."""
    with pytest.raises(TuneError, match="which experiment of MLflow"):
        fit([MLflowLoggerCallback(uri)], {"lr": 1.0})
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    callback = MLflowLoggerCallback(uri)
    callback.setup()
    callback.on_experiment_end([])
    assert callback.experiment_name == "from the environment"


def test_secrets_are_not_pickled() -> None:
    """What is recorded with an experiment has no token in it, and works without."""
    callback = MLflowLoggerCallback("sqlite://", experiment_name="x", tracking_token="hidden")
    data = pickle.dumps(callback)
    assert b"hidden" not in data
    loaded = pickle.loads(data)
    assert (loaded.tracking_token, loaded.experiment_name) == (None, "x")


def train_with_mlflow(config: dict[str, Any]) -> None:
    """Log from within the trial; fail once."""
    mlflow = setup_mlflow(
        {"lr": config["lr"]},
        tracking_uri=config["uri"],
        experiment_name="inside",
        create_experiment_if_not_exists=True,
        tags={"a": "b"},
    )
    again = Path("failed").exists()
    mlflow.log_metric("mine", 2.0 if again else 1.0, step=int(again))
    if not again:
        Path("failed").touch()
        raise ValueError("broken")
    tune.report({"run": mlflow.active_run().info.run_id})
    mlflow.end_run()


def test_setup_mlflow(fit: Any, uri: str) -> None:
    """A trial logs by itself, and its second attempt goes on in the run of the first."""
    grid = fit(
        [],
        {"lr": 1.0, "uri": uri},
        function=train_with_mlflow,
        failure_config=tune.FailureConfig(max_failures=1),
    )
    (run,) = runs_in(uri, "inside")
    assert run.info.run_id == grid[0].metrics["run"]
    assert run.info.run_name.startswith("train_with_mlflow_")
    assert (run.data.params, run.data.tags["a"]) == ({"lr": "1.0"}, "b")
    assert history(uri, run, "mine") == [(0, 1.0), (1, 2.0)]


def test_setup_mlflow_does_not_invent_experiments(uri: str) -> None:
    """A misspelt name is an error, unless it may be created."""
    import mlflow

    before = mlflow.get_tracking_uri()
    try:
        with contextlib.suppress(KeyError):
            del os.environ["MLFLOW_TRACKING_URI"]
        with pytest.raises(ValueError, match="create_experiment_if_not_exists=True"):
            setup_mlflow(tracking_uri=uri, experiment_name="misspelt")
    finally:
        mlflow.set_tracking_uri(before)
