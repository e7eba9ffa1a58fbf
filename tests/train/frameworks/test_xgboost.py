"""XGBoost in training workers: one model of all rows, its checkpoints, and going on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milepost import train
from milepost.train.error import WorkerGroupError
from milepost.train.xgboost import XGBoostCheckpoint, XGBoostConfig, XGBoostTrainer

xgboost = pytest.importorskip("xgboost")

pytestmark = [pytest.mark.timeout(150), pytest.mark.preloading("xgboost")]

PARAMS = {"max_depth": 2, "tree_method": "hist", "nthread": 1}


def rows(part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Every so many rows of a small problem."""
    x = np.random.default_rng(0).normal(size=(80, 3))
    return x[part::parts], x[part::parts, 0] * 2 + x[part::parts, 1]


def boost(config: dict[str, Any]) -> list[int]:
    """Train with one's share of the rows; whoever is named dies once, when it has begun."""
    import xgboost
    from xgboost import collective

    from milepost.train.xgboost import RayTrainReportCallback

    context = train.get_context()
    start = None
    if checkpoint := train.get_checkpoint():
        start = RayTrainReportCallback.get_model(checkpoint)
    if config.get("dies") == context.get_world_rank() and start is not None:
        mark = Path(config["mark"])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    data = xgboost.DMatrix(*rows(context.get_world_rank(), context.get_world_size()))
    done = 0 if start is None else start.num_boosted_rounds()
    xgboost.train(
        config["params"],
        data,
        config["rounds"] - done,
        evals=[(data, "t")],
        verbose_eval=False,
        xgb_model=start,
        callbacks=[RayTrainReportCallback(frequency=2)],
    )
    if config.get("fails") and start is None:
        raise KeyError(context.get_world_rank())
    return [collective.get_rank(), collective.get_world_size(), done]


def test_two_workers_make_one_model(make: Any) -> None:
    """It is made of the rows of both: what one worker makes of all of them."""
    config = {"params": PARAMS, "rounds": 4}
    result = make(XGBoostTrainer, boost, train_loop_config=config).fit()
    assert result.return_value == [0, 2, 0]
    assert list(result.metrics_dataframe["t-rmse"].round(3)) == sorted(
        result.metrics_dataframe["t-rmse"].round(3), reverse=True
    )
    assert [Path(c.path).name for c, _ in result.best_checkpoints] == [
        "checkpoint_000000",
        "checkpoint_000001",
    ]
    from milepost.train.xgboost import RayTrainReportCallback

    model = RayTrainReportCallback.get_model(result.checkpoint)
    assert model.num_boosted_rounds() == 4
    data = xgboost.DMatrix(*rows(0, 1))
    alone = xgboost.train(PARAMS, data, 4)
    np.testing.assert_allclose(model.predict(data), alone.predict(data), atol=0.2)


@pytest.mark.chaos
def test_one_worker(make: Any) -> None:
    """It has the collective too, so that a loop need not ask."""
    config = {"params": PARAMS, "rounds": 3}
    result = make(XGBoostTrainer, boost, workers=1, train_loop_config=config).fit()
    assert result.return_value == [0, 1, 0]
    assert len(result.metrics_dataframe) == 4  # and one for the model at the end


def test_going_on_after_a_kill(make: Any, tmp_path: Path) -> None:
    """All start again from the checkpoint, after a failure of all and the death of one."""
    mark = str(tmp_path / "mark")
    config = {"params": PARAMS, "rounds": 3, "fails": True, "dies": 1, "mark": mark}
    first = make(XGBoostTrainer, boost, train_loop_config=config)
    with pytest.raises(WorkerGroupError) as failed:
        first.fit()
    assert failed.value.worker_failures
    assert all(isinstance(each, KeyError) for each in failed.value.worker_failures.values())
    config["rounds"] = 5
    result = make(XGBoostTrainer, boost, max_failures=2, train_loop_config=config).fit()
    assert Path(mark).exists()
    assert result.return_value == [0, 2, 3]


def test_which_iterations_are_saved(reports: Any, worker: Any) -> None:
    """Rank 0 saves; no model is saved twice, also where training goes on with one."""
    from milepost.train.xgboost import RayTrainReportCallback

    data = xgboost.DMatrix(*rows(0, 1))
    start = xgboost.train(PARAMS, data, 3)
    for rank, begin, frequency, saved in (
        (0, None, 0, [0, 0, 1]),
        (0, None, 2, [0, 1]),
        (0, start, 2, [0, 1]),
        (1, None, 1, [0, 0]),
    ):
        reports.clear()
        callback = RayTrainReportCallback(metrics={"loss": "t-rmse"}, frequency=frequency)
        with worker(rank, 2):
            xgboost.train(
                PARAMS,
                data,
                2,
                evals=[(data, "t")],
                verbose_eval=False,
                xgb_model=begin,
                callbacks=[callback],
            )
        assert [int(files is not None) for _, files in reports] == saved
        assert {tuple(metrics) for metrics, _ in reports} == {("loss",)}
        assert all(files in (None, {"model.ubj": True}) for _, files in reports)


def test_the_checkpoint(tmp_path: Path) -> None:
    """It has the model, and says what is there instead if it has not."""
    model = xgboost.train(PARAMS, xgboost.DMatrix(*rows(0, 1)), 2)
    made = XGBoostCheckpoint.from_model(model)
    assert os.listdir(made.path) == ["model.json"]
    assert made.get_model().save_raw() == model.save_raw()
    model.save_model(str(tmp_path / "model.ubj"))
    other = XGBoostCheckpoint.from_checkpoint(train.Checkpoint.from_directory(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no model.json.*It has: model.ubj"):
        other.get_model()


def test_what_is_refused() -> None:
    """Arguments of Ray's first version raise what Ray raises, with the way out."""
    for name, value in (("label_column", "y"), ("params", {}), ("num_boost_round", 3)):
        with pytest.raises(DeprecationWarning, match=f"{name}.*xgboost.train"):
            XGBoostTrainer(boost, **{name: value})
    with pytest.raises(DeprecationWarning, match=r"RayTrainReportCallback\.get_model"):
        XGBoostTrainer.get_model(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rabit"):
        XGBoostConfig(xgboost_communicator="federated")
    with pytest.raises(TypeError, match="Did you mean 'xgboost_config'"):
        XGBoostTrainer(boost, xgbost_config=XGBoostConfig())  # type: ignore[call-arg]


def test_a_version_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has both versions and the command."""
    from milepost.train.xgboost import communicator

    monkeypatch.setattr(xgboost, "__version__", "1.7.6")
    with pytest.raises(ImportError, match=r"2.1 or newer, found 1.7.6"):
        communicator._xgboost()
