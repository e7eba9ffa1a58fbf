from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.tune import ExperimentAnalysis
from milepost.tune.experiment import Trial


@pytest.fixture
def analysis(new_run: Any) -> ExperimentAnalysis:
    """Two trials, the second one better, with a metric and mode."""
    run = new_run()
    run.trial("a", [{"loss": 3.0}, {"loss": 2.0}], config={"lr": 1, "opt": {"name": "sgd"}})
    path = run.trial("b", [{"loss": 1.0}], config={"lr": 2, "opt": {"name": "adam"}})
    run.checkpoint(path, 0, {"loss": 4.0})
    run.checkpoint(path, 1, {"loss": 1.0})
    run.checkpoint(path, 2, {"loss": float("nan")})
    run.close()
    return ExperimentAnalysis(run.path, default_metric="loss", default_mode="min")


def test_the_best_of_everything(analysis: ExperimentAnalysis) -> None:
    """Every best_* property speaks of the best trial."""
    assert analysis.best_trial is not None
    assert analysis.best_trial.trial_id == "b"
    assert analysis.best_config == {"lr": 2, "opt": {"name": "adam"}}
    assert analysis.best_result is not None
    assert analysis.best_result["loss"] == 1.0
    assert analysis.best_checkpoint is not None
    assert analysis.best_checkpoint.path.endswith("checkpoint_000001")
    assert list(analysis.best_dataframe["loss"]) == [1.0]
    assert list(analysis.best_result_df.index) == ["b"]
    assert list(analysis.best_result_df["config/opt/name"]) == ["adam"]


def test_trials_are_facades_that_read(analysis: ExperimentAnalysis) -> None:
    """Trials tell their id, status, config, last result and checkpoint, without the trainable."""
    first, second = analysis.trials
    assert isinstance(first, Trial)
    assert (first.trial_id, first.status, str(first)) == ("a", "TERMINATED", "train_a")
    assert first.is_finished()
    assert first.last_result["loss"] == 2.0
    assert first.metric_analysis["loss"] == {
        "max": 3.0,
        "min": 2.0,
        "avg": 2.5,
        "last": 2.0,
        "last-5-avg": 2.5,
        "last-10-avg": 2.5,
    }
    assert not first.has_checkpoint()
    assert second.checkpoint is not None
    assert second.checkpoint.path == os.path.join(second.path, "checkpoint_000002")
    assert second.get_error() is None
    assert second.placement_group_factory.required_resources == {"CPU": 1.0}


def test_trials_in_hand_are_taken(analysis: ExperimentAnalysis) -> None:
    """An analysis can be made of the trials of another one."""
    again = ExperimentAnalysis(
        analysis.experiment_path, trials=analysis.trials[:1], default_mode="max"
    )
    assert len(again) == 1
    assert again.default_metric == "_metric"
    assert again.best_config == analysis.trials[0].config


def test_configs_and_frames(analysis: ExperimentAnalysis) -> None:
    """Configs, rows and frames are found by trial id."""
    assert analysis.get_all_configs()["a"] == {"lr": 1, "opt": {"name": "sgd"}}
    assert analysis.get_all_configs(prefix=True)["b"]["config/lr"] == 2
    assert {k: v["loss"] for k, v in analysis.results.items()} == {"a": 2.0, "b": 1.0}
    assert list(analysis.results_df.loc["a", ["loss", "config/lr"]]) == [2.0, 1]
    assert {k: len(v) for k, v in analysis.trial_dataframes.items()} == {"a": 2, "b": 1}
    assert list(analysis.dataframe("loss", "max")["loss"]) == [3.0, 1.0]


def test_the_delimiter_of_frames(
    analysis: ExperimentAnalysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TUNE_RESULT_DELIM joins names in results_df and best_result_df."""
    monkeypatch.setenv("TUNE_RESULT_DELIM", ".")
    assert "config.opt.name" in analysis.results_df
    assert "config.opt.name" in analysis.best_result_df


def test_checkpoints_of_a_trial(
    analysis: ExperimentAnalysis, caplog: pytest.LogCaptureFixture
) -> None:
    """The best checkpoint is chosen among the kept ones without NaN; the last one is the newest."""
    first, second = analysis.trials
    worst = analysis.get_best_checkpoint(second, "loss", "max")
    assert worst is not None
    assert worst.path.endswith("checkpoint_000000")
    assert analysis.get_best_checkpoint(first) is None
    assert "No checkpoint of trial train_a" in caplog.text
    last = analysis.get_last_checkpoint(second)
    assert last is not None
    assert last.path.endswith("checkpoint_000002")
    assert analysis.get_last_checkpoint() is None  # the trial that ran longest has none


def test_a_trial_of_another_run_is_refused(analysis: ExperimentAnalysis, new_run: Any) -> None:
    """A trial that is not of this run is an error, not the wrong checkpoint."""
    other = new_run("other")
    other.trial("x", [{"loss": 0.0}])
    stranger = ExperimentAnalysis(other.path).trials[0]
    with pytest.raises(ValueError, match="not one of the 2 trials"):
        analysis.get_best_checkpoint(stranger)


def test_without_metric_and_mode(new_run: Any) -> None:
    """best_* without a metric says what to call instead."""
    run = new_run()
    run.trial("a", [{"loss": 1.0}])
    run.trial("b", [{"loss": 1.0}])
    analysis = ExperimentAnalysis(run.path)
    with pytest.raises(ValueError, match=r"get_best_trial\(metric, mode\)"):
        _ = analysis.best_trial
    with pytest.raises(ValueError, match="'min' or 'max'"):
        ExperimentAnalysis(run.path, default_metric="loss", default_mode="least")


def test_no_usable_value_is_none_with_a_warning(
    new_run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """get_best_trial returns None when no trial has the metric, and the log says so."""
    run = new_run()
    run.trial("a", [{"loss": 1.0}])
    run.trial("b", [{"loss": 1.0}])
    analysis = ExperimentAnalysis(run.path)
    assert analysis.get_best_trial("lose", "min") is None
    assert analysis.get_best_config("lose", "min") is None
    assert "Did you mean 'loss'" in caplog.text


def test_a_moved_experiment_is_the_same(analysis: ExperimentAnalysis, tmp_path: Path) -> None:
    """Moving the directory moves every path with it, and nothing refers to the old place."""
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(analysis.experiment_path, moved)
    shutil.rmtree(analysis.experiment_path)
    again = ExperimentAnalysis(moved, default_metric="loss", default_mode="min")
    assert again.best_checkpoint is not None
    assert again.best_checkpoint.path == str(moved / "train_b" / "checkpoint_000001")
    with again.best_checkpoint.as_directory() as directory:
        assert sorted(os.listdir(directory)) == [".milepost.json", "model.bin"]


def test_a_file_of_the_experiment_leads_to_it(analysis: ExperimentAnalysis) -> None:
    """Older scripts pass a file of the experiment."""
    path = os.path.join(analysis.experiment_path, "experiment_state-2026.json")
    assert len(ExperimentAnalysis(path)) == 2


def test_no_experiment_there(tmp_path: Path) -> None:
    """A directory without an experiment is a ValueError that names it."""
    with pytest.raises(ValueError, match=str(tmp_path)):
        ExperimentAnalysis(tmp_path)


def test_values_that_json_cannot_hold_show_their_repr(new_run: Any) -> None:
    """A config with an object is listed without loading the object."""
    from milepost.journal import records as rec
    from milepost.journal.objects import Objects
    from milepost.storage import codec

    run = new_run()
    encoded = codec.encode({"fn": print, "pair": (1, 2)}, Objects(run.path).put)
    run.journal.append(
        rec.Created(
            at=1.0,
            trial="o",
            name="train_o",
            directory="train_o",
            tag="0",
            order=0,
            config=msgspec.Raw(encoded),
            evaluated=msgspec.Raw(b"{}"),
            resources=msgspec.Raw(b"[]"),
        )
    )
    for path in Path(run.path, ".milepost", "objects").iterdir():
        path.write_bytes(b"damaged")
    (config,) = ExperimentAnalysis(run.path).get_all_configs().values()
    assert config == {"fn": "<built-in function print>", "pair": (1, 2)}


def test_repr_and_html(analysis: ExperimentAnalysis) -> None:
    """Repr names the experiment; the notebook table lists its trials."""
    assert repr(analysis) == f"ExperimentAnalysis({analysis.experiment_path!r}, trials=2)"
    assert "<td>train_b</td>" in analysis._repr_html_()
