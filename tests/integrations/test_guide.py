"""What ``docs/callbacks.md`` shows works as it is written."""

from __future__ import annotations

import inspect
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from milepost import tune

GUIDE = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()


def fence(containing: str) -> dict[str, Any]:
    """Run the one piece of Python in the guide with this text; return its names."""
    found = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (code,) = [code for code in found if containing in code]
    names: dict[str, Any] = {"tune": tune, "train": train}
    exec(code, names)
    return names


def train(config: dict[str, Any]) -> None:
    from tracked_runs import train as with_checkpoints

    with_checkpoints({"lr": 1000.0 if config["lr"] > 0.05 else 1.0})


def test_a_callback(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first example tells of the trial that diverges and of each checkpoint."""
    fence("StopLight")["tuner"].fit()
    printed = capsys.readouterr().out
    assert printed.count("is safe on disk") == 6
    assert len(re.findall(r"train_\w+ diverges: {'lr': 0.1}", printed)) == 3


def test_a_changed_logger(fit: Any) -> None:
    """It writes the file in place of ours."""
    grid = fit([fence("WithoutHistograms")["WithoutHistograms"]()], {"lr": 1.0})
    text = Path(grid[0].path, "result.json").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["training_iteration"] for row in rows] == [1, 2, 3]
    assert all("histogram" in row for row in rows)


def test_a_logger_of_ones_own(fit: Any) -> None:
    """The diary has each result and the end."""
    grid = fit([fence("class Diary")["Diary"]()], {"lr": 0.6})
    text = Path(grid[0].path, "diary.txt").read_text()
    assert text.splitlines() == ["1 0.6", "2 0.3", "3 0.19999999999999998", "finished"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["mlflow", "wandb"])
def test_trackers(library: str) -> None:
    """The callbacks can be made as it says."""
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    assert isinstance(fence(f"logger.{library} import")["callback"], tune.Callback)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(180)
def test_inside_a_trial(fit: Any, home: Path) -> None:
    """The function logs to MLflow and reports."""
    if find_spec("mlflow") is None or find_spec("sqlalchemy") is None:
        pytest.skip("needs mlflow")
    function = fence("def train_with_mlflow")["train_with_mlflow"]
    uri = f"sqlite:///{home}/mlflow.db"
    grid = fit([], {"lr": 1.0, "tracking_uri": uri}, function=function)
    assert not grid.errors
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([found.experiment_id])
    assert run.data.metrics["loss"] == pytest.approx(1 / 3)


def test_the_table_of_hooks() -> None:
    """It names every hook that is called, and arguments that exist."""
    table = re.findall(r"^\| `(.*?)` \|", GUIDE.partition("## Result files")[0], re.MULTILINE)
    called = re.findall(r"`?(\w+)\(([\w, ]*)\)", " ".join(table))
    hooks = {name for name in vars(tune.Callback) if name.startswith(("on_", "setup"))}
    assert {name for name, _ in called} == hooks - {"on_trial_restore"}
    for name, arguments in called:
        parameters = inspect.signature(getattr(tune.Callback, name)).parameters
        assert set(filter(None, arguments.split(", "))) <= set(parameters)


def test_constructors_have_the_arguments_that_scripts_use() -> None:
    """Names, order and defaults are those of Ray."""
    from milepost.integrations import aim, comet, mlflow, wandb

    expected = {
        aim.AimLoggerCallback: "(repo=None, experiment_name=None, metrics=None, **aim_run_kwargs)",
        comet.CometLoggerCallback: (
            "(online=True, tags=None, save_checkpoints=False, **experiment_kwargs)"
        ),
        mlflow.MLflowLoggerCallback: (
            "(tracking_uri=None, *, registry_uri=None, experiment_name=None, tags=None, "
            "tracking_token=None, save_artifact=False, log_params_on_trial_end=False)"
        ),
        mlflow.setup_mlflow: (
            "(config=None, tracking_uri=None, registry_uri=None, experiment_id=None, "
            "experiment_name=None, tracking_token=None, artifact_location=None, run_name=None, "
            "create_experiment_if_not_exists=False, tags=None, rank_zero_only=True)"
        ),
        wandb.WandbLoggerCallback: (
            "(project=None, group=None, api_key_file=None, api_key=None, excludes=None, "
            "log_config=False, upload_checkpoints=False, save_checkpoints=False, "
            "upload_timeout=1800, video_kwargs=None, image_kwargs=None, **kwargs)"
        ),
        wandb.setup_wandb: (
            "(config=None, api_key=None, api_key_file=None, rank_zero_only=True, **kwargs)"
        ),
    }
    for function, text in expected.items():
        signature = inspect.signature(function)
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        bare = signature.replace(parameters=plain, return_annotation=signature.empty)
        assert str(bare) == text, function
