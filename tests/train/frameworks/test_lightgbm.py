"""LightGBM in training workers."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from milepost import train
from milepost.train.lightgbm import (
    LightGBMCheckpoint,
    LightGBMTrainer,
    RayTrainReportCallback,
    get_network_params,
    normalize_pandas_for_lightgbm,
)

pytestmark = pytest.mark.timeout(150)

PARAMS = {"verbosity": -1, "min_data_in_leaf": 1, "num_threads": 1, "num_leaves": 4}


def rows(part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Every so many rows of a small problem."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    return x[part::parts], x[part::parts, 0] * 2 + x[part::parts, 1]


def boost(config: dict[str, Any]) -> str:
    """Train with one's share of the rows; returns the model."""
    import lightgbm

    context = train.get_context()
    start = None
    if checkpoint := train.get_checkpoint():
        start = RayTrainReportCallback.get_model(checkpoint)
    data = lightgbm.Dataset(*rows(context.get_world_rank(), context.get_world_size()))
    model = lightgbm.train(
        {**PARAMS, "tree_learner": "data", **get_network_params()},
        data,
        config["rounds"] - (0 if start is None else start.num_trees()),
        valid_sets=[data],
        valid_names=["t"],
        init_model=start,
        callbacks=[RayTrainReportCallback(frequency=2)],
    )
    return model.model_to_string()


def ask() -> dict[str, Any]:
    """What rank 0 would pass to LightGBM."""
    return get_network_params()


def test_the_network(make: Any) -> None:
    """All workers know of all, each by a port of its own."""
    said = make(LightGBMTrainer, ask, workers=3).fit().return_value
    machines = said["machines"].split(",")
    assert said["num_machines"] == len(set(machines)) == 3
    assert machines[0] == f"127.0.0.1:{said['local_listen_port']}"


def test_no_network(caplog: pytest.LogCaptureFixture) -> None:
    """Outside of workers there is none, and the log says so."""
    with caplog.at_level(logging.WARNING):
        assert get_network_params() == {}
    assert "outside a function that LightGBMTrainer runs" in caplog.text


@pytest.mark.parametrize("rank", [0, 1])
def test_who_saves(rank: int, reports: Any, worker: Any) -> None:
    """Rank 0 has the model in its report, at the frequency and at the end."""
    model = SimpleNamespace(save_model=lambda path: Path(path).write_text("trees"))
    callback = RayTrainReportCallback(metrics=["t-l2"], frequency=2)
    with worker(rank, 2):
        for number in range(3):
            entries = [("t", "l2", number / 10, False), ("t", "l1", 0.0, False)]
            callback(
                SimpleNamespace(
                    model=model,
                    iteration=number,
                    begin_iteration=0,
                    end_iteration=3,
                    evaluation_result_list=entries,
                )
            )
    files = {"model.txt": True} if rank == 0 else None
    assert reports == [({"t-l2": 0.0}, None), ({"t-l2": 0.1}, files), ({"t-l2": 0.2}, files)]


def test_outside_of_workers() -> None:
    """A callback says that it has nobody to report to."""
    env = SimpleNamespace(
        model=None, iteration=0, begin_iteration=0, end_iteration=9, evaluation_result_list=[]
    )
    with pytest.raises(RuntimeError, match="outside a training worker"):
        RayTrainReportCallback()(env)


def test_frames() -> None:
    """Numbers become NumPy's, what is missing NaN; the rest stays, also with equal names."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    given = pd.DataFrame(
        {
            "plain": [1, 2],
            "nullable": pd.array([1, 2], dtype="Int32"),
            "missing": pd.array([1, None], dtype="Int64"),
            "arrow": pd.array([1.5, None], dtype="double[pyarrow]"),
            "truth": pd.array([True, None], dtype="boolean"),
            "kind": pd.Categorical(["a", "b"]),
        }
    )
    given.columns = ["a", "a", "b", "c", "d", "e"]
    made = normalize_pandas_for_lightgbm(given)
    assert [str(dtype) for dtype in made.dtypes] == [
        *("int64", "int32", "float64", "float64", "float64", "category")
    ]
    np.testing.assert_array_equal(made.iloc[:, 2], [1, np.nan])
    np.testing.assert_array_equal(made.iloc[:, 4], [1, np.nan])
    assert str(given.dtypes.iloc[1]) == "Int32"


def test_what_is_refused() -> None:
    """Arguments of Ray's first version raise what Ray raises, with the way out."""
    with pytest.raises(DeprecationWarning, match=r"params.*lightgbm\.train"):
        LightGBMTrainer(boost, params={})
    with pytest.raises(DeprecationWarning, match=r"RayTrainReportCallback\.get_model"):
        LightGBMTrainer.get_model(None)  # type: ignore[arg-type]


def test_lightgbm_itself(make: Any) -> None:
    """Two workers make one model of the rows of both, and go on with it."""
    lightgbm = pytest.importorskip("lightgbm")
    for rounds in (3, 5):
        config = {"rounds": rounds}
        result = make(LightGBMTrainer, boost, train_loop_config=config).fit()
    model = RayTrainReportCallback.get_model(result.checkpoint)
    assert model.num_trees() == 5
    assert LightGBMCheckpoint.from_checkpoint(result.checkpoint).get_model().num_trees() == 5
    again = LightGBMCheckpoint.from_model(model).get_model()
    x, y = rows(0, 1)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    alone = lightgbm.train(PARAMS, lightgbm.Dataset(x, y), 5)
    # Bins are found in each worker's share, so that single rows may fall on another side.
    assert np.abs(model.predict(x) - alone.predict(x)).mean() < 0.15
