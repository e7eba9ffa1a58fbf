"""Loggers: which files are written, by whom, and what is in them."""

from __future__ import annotations

import csv
import json
import math
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from milepost.tune import Callback
from milepost.tune.logger import (
    CSVLoggerCallback,
    JsonLoggerCallback,
    LoggerCallback,
    TBXLoggerCallback,
    pretty_print,
)
from milepost.tune.logger.files import projections, without_file_loggers

ALL = {"json", "csv", "tensorboard"}


class Shouting(JsonLoggerCallback):
    """A logger that changes what is written."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        super().log_trial_result(iteration, trial, {**result, "loud": True})


class Renamed(CSVLoggerCallback):
    """A logger that changes nothing."""


def trial_in(directory: Path, **config: Any) -> Any:
    """A trial, as far as a logger looks at it."""
    return SimpleNamespace(
        trial_id="t1", path=str(directory), config=config, evaluated_params=dict(config)
    )


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """The rows of result.json."""
    return [json.loads(line) for line in (directory / "result.json").read_text().splitlines()]


# --- who writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callbacks", "outside", "inside"),
    [
        ([], ALL, []),
        ([JsonLoggerCallback()], ALL, []),
        ([Renamed()], ALL, []),
        ([Shouting()], {"csv", "tensorboard"}, [Shouting]),
        ([Callback(), TBXLoggerCallback(), Shouting()], ALL - {"json"}, [Callback, Shouting]),
        ([LoggerCallback()], ALL, [LoggerCallback]),
    ],
)
def test_files_are_written_once(
    callbacks: list[Callback], outside: set[str], inside: list[type]
) -> None:
    """Plain loggers only say what is wanted; one that changes a hook writes by itself."""
    assert projections(callbacks) == outside
    assert [type(callback) for callback in without_file_loggers(callbacks)] == inside


def test_no_default_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable set, only what is asked for is written."""
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    assert projections([]) == set()
    assert projections([CSVLoggerCallback(), Shouting()]) == {"csv"}


# --- what is written ----------------------------------------------------------------------------


def test_json(tmp_path: Path) -> None:
    """Every value has a form in JSON, and the config is in each row."""
    logger, trial = JsonLoggerCallback(), trial_in(tmp_path, lr=0.1, model=object, n=np.float32(2))
    logger.log_trial_start(trial)
    row = {
        "a": np.float32(0.25),
        "b": np.bool_(True),
        "c": np.ones(2),
        "d": {"e": (1, 2)},
        "f": float("nan"),
        "g": object,
        "h": None,
        "config": trial.config,
    }
    logger.log_trial_result(1, trial, row)
    (written,) = rows_of(tmp_path)
    config = {"lr": 0.1, "model": "<class 'object'>", "n": 2.0}
    assert math.isnan(written.pop("f"))
    assert written == {
        "a": 0.25,
        "b": True,
        "c": [1.0, 1.0],
        "d": {"e": [1, 2]},
        "g": "<class 'object'>",
        "h": None,
        "config": config,
    }
    assert json.loads((tmp_path / "params.json").read_text()) == config
    assert pickle.loads((tmp_path / "params.pkl").read_bytes()) == trial.config
    assert row["config"] is trial.config


def test_rows_are_appended_when_a_trial_starts_again(tmp_path: Path) -> None:
    """A retry adds rows and loses none; a changed config is in the files from then on."""
    logger, trial = Shouting(), trial_in(tmp_path, lr=1)
    logger.log_trial_start(trial)
    logger.log_trial_result(1, trial, {"m": 1})
    trial.config = {"lr": 2}
    logger.log_trial_start(trial)
    logger.log_trial_result(2, trial, {"m": 2})
    logger.log_trial_end(trial)
    again = Shouting()
    again.log_trial_result(3, trial, {"m": 3})
    assert [(row["m"], row["loud"], row["config"]["lr"]) for row in rows_of(tmp_path)] == [
        (1, True, 1),
        (2, True, 2),
        (3, True, 2),
    ]
    assert json.loads((tmp_path / "params.json").read_text()) == {"lr": 2}


def test_csv(tmp_path: Path) -> None:
    """Nested values have flat columns; a new one makes the table wider."""
    logger, trial = CSVLoggerCallback(), trial_in(tmp_path)
    logger.log_trial_start(trial)
    logger.log_trial_result(1, trial, {"a": 1, "n": {"x": 2}, "config": {"lr": 1}})
    logger.log_trial_result(2, trial, {"a": 3, "late": "z"})
    logger.log_trial_end(trial)
    with (tmp_path / "progress.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"a": "1", "n/x": "2", "late": ""},
            {"a": "3", "n/x": "", "late": "z"},
        ]


def events_of(path: Path) -> list[Any]:
    """The events of a TensorBoard file, read with tensorboardX's own classes."""
    from tensorboardX.proto import event_pb2

    data, at, events = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        events.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
        at += 16 + length
    return events


def test_tensorboard(tmp_path: Path) -> None:
    """Scalars, arrays and hyper-parameters are where TensorBoard looks for them."""
    from tensorboardX.proto import plugin_hparams_pb2

    logger, trial = TBXLoggerCallback(), trial_in(tmp_path, lr=0.5, name="x", none=None)
    logger.log_trial_start(trial)
    for i in (1, 2):
        logger.log_trial_result(
            i,
            trial,
            {"loss": 1 / i, "n": {"x": i}, "nan": float("nan"), "v": [1, 2], "pid": 3}
            | {"training_iteration": i, "time_total_s": 1.0, "timestamp": 1, "text": "s"},
        )
    logger.log_trial_end(trial)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = events_of(path)
    scalars = {
        (event.step, value.tag): value.simple_value
        for event in events
        for value in event.summary.value
        if value.WhichOneof("value") == "simple_value"
    }
    assert scalars == {
        (1, "ray/tune/loss"): 1.0,
        (1, "ray/tune/n/x"): 1.0,
        (2, "ray/tune/loss"): 0.5,
        (2, "ray/tune/n/x"): 2.0,
    }
    histograms = [v.tag for e in events for v in e.summary.value if v.HasField("histo")]
    assert histograms == ["ray/tune/v", "ray/tune/v"]
    plugins = {
        value.tag: plugin_hparams_pb2.HParamsPluginData.FromString(
            value.metadata.plugin_data.content
        )
        for event in events
        for value in event.summary.value
        if value.tag.startswith("_hparams_")
    }
    experiment = plugins["_hparams_/experiment"].experiment
    assert [info.name for info in experiment.hparam_infos] == ["lr", "name"]
    assert [info.name.tag for info in experiment.metric_infos] == ["ray/tune/loss", "ray/tune/n/x"]
    start = plugins["_hparams_/session_start_info"].session_start_info.hparams
    assert start["lr"].number_value == 0.5
    assert start["name"].string_value == "x"
    assert plugins["_hparams_/session_end_info"].session_end_info.status == 1


def test_logger_hooks() -> None:
    """A logger hears of one trial at a time."""
    heard: list[Any] = []

    class Hearing(LoggerCallback):
        def log_trial_start(self, trial: Any) -> None:
            heard.append(("start", trial))

        def log_trial_restore(self, trial: Any) -> None:
            heard.append(("restore", trial))

        def log_trial_save(self, trial: Any) -> None:
            heard.append(("save", trial))

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            heard.append(("result", iteration, trial, result))

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            heard.append(("end", trial, failed))

    logger = Hearing()
    common: dict[str, Any] = {"iteration": 7, "trials": [], "trial": "t"}
    logger.on_trial_start(**common)
    logger.on_trial_restore(**common)
    logger.on_trial_save(**common)
    logger.on_trial_result(**common, result={"m": 1})
    logger.on_trial_complete(**common)
    logger.on_trial_error(**common)
    assert heard == [
        ("start", "t"),
        ("restore", "t"),
        ("save", "t"),
        ("result", 7, "t", {"m": 1}),
        ("end", "t", False),
        ("end", "t", True),
    ]


def test_callbacks_do_nothing_by_default() -> None:
    """Every hook may be left out, and takes keywords that it does not know."""
    common: dict[str, Any] = {"iteration": 1, "trials": [], "unknown": 1}
    callback = Callback()
    callback.setup(stop=None, num_samples=1, total_num_samples=1, unknown=1)
    callback.on_step_begin(**common)
    callback.on_step_end(**common)
    for hook in ("start", "restore", "save", "complete", "recover", "error"):
        getattr(callback, f"on_trial_{hook}")(**common, trial=None)
    callback.on_trial_result(**common, trial=None, result={})
    callback.on_checkpoint(**common, trial=None, checkpoint=None)
    callback.on_experiment_end(trials=[], unknown=1)
    assert callback.get_state() is None
    callback.set_state({})


# --- for people ---------------------------------------------------------------------------------

PRETTY = [
    ({"b": 1, "a": {"c": 2.5, "d": {}}}, "a:\n  c: 2.5\n  d: {}\nb: 1\n"),
    ({"l": [1, [2, 3], {"p": 1, "q": [4]}], "e": []}, None),
    ({"none": None, "config": 1, "hist_stats": 2, "kept": 3}, "kept: 3\n"),
    ({"x": 1e-7, "z": 1e20, "k": float("nan"), "i": -math.inf}, None),
    ({"np": np.float32(1.5), "arr": np.arange(2)}, "arr:\n- 0\n- 1\nnp: 1.5\n"),
    ({"t": True, "s": "text", "o": object}, "o: <class 'object'>\ns: text\nt: true\n"),
    ({3: 4}, "'3': 4\n"),
]


@pytest.mark.parametrize(("result", "text"), PRETTY)
def test_pretty_print(result: dict[Any, Any], text: str | None) -> None:
    """Results are YAML, sorted, without what has no value."""
    if text is None:
        text = {
            "l": "e: []\nl:\n- 1\n- - 2\n  - 3\n- p: 1\n  q:\n  - 4\n",
            "x": "i: -.inf\nk: .nan\nx: 1.0e-07\nz: 1.0e+20\n",
        }[next(iter(result))]
    assert pretty_print(result) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("true", "'true'"),
        ("NO", "'NO'"),
        ("y", "'y'"),
        ("null", "'null'"),
        ("~", "'~'"),
        ("1", "'1'"),
        ("1e3", "'1e3'"),
        ("0x1f", "'0x1f'"),
        ("2026-01-01", "'2026-01-01'"),
        ("12:30", "'12:30'"),
        ("", "''"),
        ("a: b", "'a: b'"),
        ("a #b", "'a #b'"),
        ("- a", "'- a'"),
        ("*a", "'*a'"),
        (" a", "' a'"),
        ("a\nb", '"a\\nb"'),
        ("it's: x", "'it''s: x'"),
        ("it's", "it's"),
        ("a:b", "a:b"),
        ("é", "é"),
        ("v1.2", "v1.2"),
    ],
)
def test_text_that_yaml_would_misread(text: str, shown: str) -> None:
    """Text that looks like something else stands in quotes."""
    assert pretty_print({"k": text}) == f"k: {shown}\n"


def test_pretty_print_leaves_out_what_is_unwanted() -> None:
    """Further keys can be left out."""
    assert pretty_print({"a": 1, "b": 2}, exclude={"a"}) == "b: 2\n"
